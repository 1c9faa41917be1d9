"""What the bucket says of Object Lock, and an attempt to break a lock of one day."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from workers.checks.results import Result, amber, green, red
from workers.checks.store import Reply, Store

_PROBE: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ObjectLock:
    """Whether the bucket has Object Lock, and its default retention; `words` is S3's answer."""

    enabled: bool
    words: str
    mode: str | None = None
    days: int = 0

    @property
    def explicit(self) -> dict[str, Any]:
        """A retention of a day for scratch objects: without it, a default would keep them for years."""
        return one_day() if self.days else {}


def one_day() -> dict[str, Any]:
    """Return the options of a GOVERNANCE lock that ends tomorrow."""
    return {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": datetime.now(UTC) + _PROBE}


def read_object_lock(store: Store) -> ObjectLock:
    """Ask for the bucket's Object Lock and default retention."""
    reply = store.ask("get_object_lock_configuration")
    configuration = reply.fields.get("ObjectLockConfiguration", {})
    rule = configuration.get("Rule", {}).get("DefaultRetention", {})
    days = int(rule.get("Days", 0)) + 365 * int(rule.get("Years", 0))
    enabled = configuration.get("ObjectLockEnabled") == "Enabled"
    return ObjectLock(enabled, reply.code or "it is off", rule.get("Mode"), days)


def try_lock(store: Store, mode: str | None, key: str, version_id: str) -> Iterator[Result]:
    """Try to delete what is locked, to hold it, and to get round the lock; the last removes it where that works.

    `mode` is what the settings ask for. Only GOVERNANCE is tried, whose probe can be removed one day later.
    """
    target: dict[str, Any] = {"Key": key, "VersionId": version_id}
    head = store.ask("head_object", **target)
    until = head.fields.get("ObjectLockRetainUntilDate")
    if not head.ok or head.fields.get("ObjectLockMode") != "GOVERNANCE" or until is None:
        mend = "use a store that keeps Object Lock, or unset ARCHIVE_OBJECT_LOCK_MODE"
        yield red("lock kept", "S3 took a retention and does not report it", mend)
        return
    gone = store.ask("delete_object", **target)
    if not gone.denied:
        mend = "use a store that keeps Object Lock, or unset ARCHIVE_OBJECT_LOCK_MODE"
        yield red("lock kept", f"deleting a locked object is answered {gone.words}, not 403", mend)
        return
    yield green("lock kept", "a locked object can't be deleted")
    yield _hold(store, target)
    around = store.ask("delete_object", BypassGovernanceRetention=True, **target)
    if around.ok and mode == "GOVERNANCE":
        mend = "deny s3:BypassGovernanceRetention to these credentials, or use ARCHIVE_OBJECT_LOCK_MODE=COMPLIANCE"
        yield amber("lock bypass", "these credentials may delete what GOVERNANCE locks", mend)
    elif mode == "GOVERNANCE":
        yield green("lock bypass", "not allowed to these credentials")


def _hold(store: Store, target: dict[str, Any]) -> Result:
    """Put the probe under a legal hold and lift it."""
    replies: list[Reply] = [
        store.ask("put_object_legal_hold", LegalHold={"Status": status}, ChecksumAlgorithm="SHA256", **target)
        for status in ("ON", "OFF")
    ]
    if all(reply.ok for reply in replies):
        return green("legal hold", "can be set and lifted")
    mend = "allow s3:PutObjectLegalHold on the bucket's objects: archiver hold needs it"
    return amber("legal hold", f"S3 answers {replies[0].words}", mend)
