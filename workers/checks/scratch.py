"""One run's objects in a scratch prefix of the bucket, removed at its end as far as S3 lets us."""

import hashlib
import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from workers.checks.object_lock import ObjectLock
from workers.checks.results import Result, green
from workers.checks.store import Reply, Store

FOLDER: Final = "control/check/"
_STALE: Final = timedelta(hours=1)


@dataclass
class Scratch:
    """Objects under `control/check/`; `written` holds their keys and versions."""

    store: Store
    lock: ObjectLock
    written: list[tuple[str, str | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        now = datetime.now(UTC)
        self.folder = f"{self.store.archive.prefix}{FOLDER}{now:%Y-%m-%dT%H%M%SZ}-{secrets.token_hex(4)}/"

    @property
    def options(self) -> dict[str, Any]:
        """What documents of the archive are written with; under a default retention, one that ends tomorrow."""
        return {**self.store.archive.write_options, **self.lock.explicit}

    @property
    def once(self) -> dict[str, Any]:
        """What is written once and never overwritten."""
        return {"IfNoneMatch": "*", **self.options}

    def put(self, key: str, body: bytes, *, checksum: str = "", **options: Any) -> Reply:
        """Write an object with a checksum, its own unless another one is given."""
        reply = self.store.ask(
            "put_object",
            Key=key,
            Body=body,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=checksum or sha256(body),
            **options,
        )
        self.note(key, reply)
        return reply

    def note(self, key: str, reply: Reply) -> None:
        """Remember a version that there is now, to remove it at the end."""
        if reply.ok:
            self.written.append((key, reply.fields.get("VersionId")))

    def clean_up(self) -> Result:
        """Remove what was written."""
        self.written = [(key, version) for key, version in reversed(self.written) if not self._remove(key, version)]
        if self.written:
            left = f"{len(self.written)} scratch objects stay in {self.folder}"
            return green("clean-up", f"{left}, as locks or permissions say; a later check removes them")
        return green("clean-up", "every scratch object is removed")

    def remove_stale(self) -> None:
        """Remove what earlier runs had to leave behind."""
        listed = self.store.ask("list_object_versions", Prefix=self.store.archive.prefix + FOLDER, MaxKeys=100)
        for each in (*listed.fields.get("Versions", ()), *listed.fields.get("DeleteMarkers", ())):
            if each["LastModified"] < datetime.now(UTC) - _STALE:
                self._remove(each["Key"], each["VersionId"])

    def _remove(self, key: str, version_id: str | None) -> bool:
        target: dict[str, Any] = {"Key": key, **({"VersionId": version_id} if version_id else {})}
        if (reply := self.store.ask("delete_object", **target)).ok:
            return True
        locked = reply.denied and version_id is not None
        return locked and self.store.ask("delete_object", BypassGovernanceRetention=True, **target).ok


def sha256(body: bytes) -> str:
    """Digest bytes as S3 writes a checksum: in base64."""
    return b64encode(hashlib.sha256(body).digest()).decode()
