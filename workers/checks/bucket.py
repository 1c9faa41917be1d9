"""Check the bucket without writing: that it is reached, and how it is configured. What is written is in `writes`."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from app.receipt import DELETIONS_PAUSED, PAUSE_SCHEMA, from_json
from app.settings import WorkerSettings
from workers.checks.network import judge_clock
from workers.checks.object_lock import ObjectLock, read_object_lock
from workers.checks.results import Result, amber, green, red, skipped
from workers.checks.scratch import Scratch
from workers.checks.store import NO_CREDENTIALS, Reply, Store
from workers.checks.writes import Writes
from workers.errors import ArchiverError

_CREDENTIALS: Final = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidToken",
    "TokenRefreshRequired",
    NO_CREDENTIALS,
}
_ELSEWHERE: Final = {"PermanentRedirect", "AuthorizationHeaderMalformed", "301", "IllegalLocationConstraintException"}
_BLOCKS: Final = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_KEPT: Final = ("recordings/", "receipts/", "deletions/", "absences/")
_REASON_CHARS: Final = 120


def check_bucket(settings: WorkerSettings, *, write: bool) -> Iterator[Result]:
    """Look at the bucket, and with `write` try in a scratch prefix what archiving relies on."""
    try:
        store = Store(settings)
    except ArchiverError as error:
        yield red("reached", f"boto3 can't be set up ({error.detail})", "correct the AWS_* variables")
        return
    first = store.ask("list_objects_v2", Prefix=store.archive.prefix, MaxKeys=1)
    yield from _reached(store, first)
    if first.headers.get("date"):
        yield judge_clock("clock", first.headers["date"], first.at)
    if (
        first.fault
        or first.code in _CREDENTIALS | _ELSEWHERE | {"NoSuchBucket", "RequestTimeTooSkewed"}
        or not _owned(store, first)
    ):
        return
    yield _missing_key(store)
    yield from _versioning(store)
    yield from _public_access(store)
    yield from _encryption(store, settings)
    yield from _lifecycle(store, settings)
    lock = read_object_lock(store)
    yield _object_lock(settings, lock)
    if write:
        yield from Writes(store, settings, Scratch(store, lock)).check()
    else:
        yield skipped("writes", "not tried (--no-write)")
    yield _deletions(store, settings)


def _reached(store: Store, reply: Reply) -> Iterator[Result]:
    name, bucket, host = "reached", store.archive.bucket, urlsplit(store.endpoint).hostname
    if reply.fault:
        mends = {
            "credentials": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the dyno or task a role",
            "name": "correct AWS_DEFAULT_REGION or AWS_ENDPOINT_URL_S3",
        }
        mend = mends.get(reply.fault.kind, "correct AWS_ENDPOINT_URL_S3, or let this machine reach S3")
        yield red(name, f"{host}: {reply.words}", mend)
    elif reply.code == "NoSuchBucket":
        yield red(name, f"there is no bucket {bucket}", "correct ARCHIVE_BUCKET, or make the bucket")
    elif reply.code in _CREDENTIALS:
        mend = "correct AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or the role"
        yield red(name, f"S3 does not accept the credentials ({reply.code})", mend)
    elif reply.code in _ELSEWHERE:
        mend = f"set AWS_DEFAULT_REGION to {_region(reply) or 'its region'}"
        yield red(name, f"{bucket} is not in {store.region}", mend)
    elif reply.code == "RequestTimeTooSkewed":
        yield red(name, "S3 refuses requests that are so far off in time", "let NTP set this machine's clock")
    elif not _owned(store, reply):
        mend = "correct ARCHIVE_BUCKET_OWNER, or ARCHIVE_BUCKET if the bucket is somebody else's"
        yield red(name, f"{bucket} does not belong to ARCHIVE_BUCKET_OWNER", mend)
    elif not reply.ok:
        mend = f"allow s3:ListBucket on arn:aws:s3:::{bucket}: sweep and audit list it"
        yield red(name, f"{bucket} may not be listed: {reply.words}", mend)
    elif (region := _region(reply)) not in (None, store.region):
        mend = f"set AWS_DEFAULT_REGION={region}: every first request is sent twice"
        yield amber(name, f"{bucket} is in {region}, not in {store.region}", mend)
    else:
        yield green(name, f"{bucket} at {host}" + (" is its owner's" if store.owner else ""))
    if urlsplit(store.endpoint).scheme == "http" and host not in ("127.0.0.1", "localhost", "::1"):
        mend = "begin AWS_ENDPOINT_URL_S3 with https://"
        yield amber("TLS", "recordings go to S3 unencrypted", mend)


def _region(reply: Reply) -> str | None:
    return reply.headers.get("x-amz-bucket-region")


def _owned(store: Store, reply: Reply) -> bool:
    """Tell whether a refusal has another reason than ARCHIVE_BUCKET_OWNER."""
    if not (store.owner and reply.denied):
        return True
    return not store.ask("list_objects_v2", any_owner=True, MaxKeys=1, Prefix=store.archive.prefix).ok


def _missing_key(store: Store) -> Result:
    reply = store.ask("head_object", Key=f"{store.archive.prefix}control/check/there-is-no-such-key")
    if reply.status == 404:
        return green("missing object", "a missing object is answered 404")
    mend = f"allow s3:ListBucket on arn:aws:s3:::{store.archive.bucket} (not on its objects) and s3:GetObject on them"
    return red("missing object", f"a missing object is answered {reply.words}, not 404", mend)


def _untold(name: str, reply: Reply, action: str) -> Result:
    """Say that S3 does not tell something; what follows from it is tried elsewhere or is for the console."""
    if reply.denied:
        return skipped(name, f"{action} is not allowed to these credentials; look into the console")
    return skipped(name, f"the store does not say ({reply.words})")


def _versioning(store: Store) -> Iterator[Result]:
    reply = store.ask("get_bucket_versioning")
    if not reply.ok:
        yield _untold("versioning", reply, "s3:GetBucketVersioning")
    elif reply.fields.get("Status") == "Enabled":
        yield green("versioning", "on")
    else:
        mend = "turn versioning on: then nothing that is overwritten or deleted is gone at once"
        yield amber("versioning", str(reply.fields.get("Status", "off")).lower(), mend)


def _public_access(store: Store) -> Iterator[Result]:
    status = store.ask("get_bucket_policy_status")
    if status.fields.get("PolicyStatus", {}).get("IsPublic"):
        mend = "take the statements for everybody out of the bucket policy"
        yield red("bucket policy", "it lets everybody in", mend)
    reply = store.ask("get_public_access_block")
    blocked = reply.fields.get("PublicAccessBlockConfiguration", {})
    open_ways = [name for name in _BLOCKS if not blocked.get(name)]
    mend = "turn on all four settings of Block Public Access for the bucket"
    if reply.ok and not open_ways:
        yield green("public access", "blocked")
    elif reply.ok or reply.code == "NoSuchPublicAccessBlockConfiguration":
        yield amber("public access", f"not blocked: {', '.join(open_ways)}", mend)
    else:
        yield _untold("public access", reply, "s3:GetBucketPublicAccessBlock")


def _encryption(store: Store, settings: WorkerSettings) -> Iterator[Result]:
    reply = store.ask("get_bucket_encryption")
    name = "default encryption"
    rules = reply.fields.get("ServerSideEncryptionConfiguration", {}).get("Rules", [])
    kinds = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm") for rule in rules]
    if reply.ok and any(kinds):
        yield green(name, ", ".join(str(kind) for kind in kinds if kind))
    elif settings.ARCHIVE_SSE:
        yield green(name, f"none, but every write asks for {settings.ARCHIVE_SSE}")
    elif reply.ok or reply.code == "ServerSideEncryptionConfigurationNotFoundError":
        yield amber(name, "none", "set ARCHIVE_SSE=AES256 (or aws:kms), or the bucket's default encryption")
    else:
        yield _untold(name, reply, "s3:GetEncryptionConfiguration")


def _lifecycle(store: Store, settings: WorkerSettings) -> Iterator[Result]:
    reply = store.ask("get_bucket_lifecycle_configuration")
    if not reply.ok and reply.code != "NoSuchLifecycleConfiguration":
        yield _untold("lifecycle", reply, "s3:GetLifecycleConfiguration")
        return
    rules = [rule for rule in reply.fields.get("Rules", []) if rule.get("Status") == "Enabled"]
    media = f"{store.archive.prefix}recordings/"
    if any("AbortIncompleteMultipartUpload" in rule and media.startswith(_prefix(rule)) for rule in rules):
        yield green("unfinished uploads", "a lifecycle rule removes them")
    else:
        mend = "add a lifecycle rule that aborts incomplete multipart uploads after some days: their parts cost money"
        yield amber("unfinished uploads", "no lifecycle rule removes them", mend)
    for rule in rules:
        days = rule.get("Expiration", {}).get("Days")
        if days is not None and _covers(_prefix(rule), store.archive.prefix):
            yield _expiry(settings, int(days))


def _expiry(settings: WorkerSettings, days: int) -> Result:
    kept = settings.ARCHIVE_RETENTION_DAYS
    found = f"a lifecycle rule removes objects after {days} days"
    if kept is None:
        mend = "take it away, or let it wait until the retention that the law asks for is over"
        return amber("expiry", found, mend)
    if days < kept:
        return red("expiry", f"{found}, before ARCHIVE_RETENTION_DAYS", f"let the rule wait for {kept} days at least")
    return green("expiry", f"{found}, when ARCHIVE_RETENTION_DAYS are over")


def _prefix(rule: Mapping[str, Any]) -> str:
    chosen = rule.get("Filter", {})
    return str(rule.get("Prefix") or chosen.get("Prefix") or chosen.get("And", {}).get("Prefix") or "")


def _covers(rule_prefix: str, archive_prefix: str) -> bool:
    """Tell whether a rule is for anything that has to stay."""
    kept = [archive_prefix + collection for collection in _KEPT]
    return any(each.startswith(rule_prefix) or rule_prefix.startswith(each) for each in kept)


def _object_lock(settings: WorkerSettings, lock: ObjectLock) -> Result:
    asked = settings.ARCHIVE_OBJECT_LOCK_MODE
    if asked and not lock.enabled:
        mend = "turn Object Lock on for the bucket (versioning first), or unset ARCHIVE_OBJECT_LOCK_MODE"
        return red("Object Lock", f"the bucket does not have it ({lock.words})", mend)
    if not lock.enabled:
        return skipped("Object Lock", "not asked for (ARCHIVE_OBJECT_LOCK_MODE is unset)")
    days = settings.ARCHIVE_RETENTION_DAYS
    default = f"; the bucket's default is {lock.mode} for {lock.days} days" if lock.days else ""
    if asked:
        return green("Object Lock", f"{asked} for {days} days{default}")
    return green("Object Lock", f"the bucket has it, the settings don't ask for it{default}")


def _deletions(store: Store, settings: WorkerSettings) -> Result:
    delay = settings.TWILIO_DELETE
    reply = store.ask("get_object", Key=store.archive.prefix + DELETIONS_PAUSED)
    if reply.ok:
        try:
            reason = str(from_json(reply.fields["Body"].read(), PAUSE_SCHEMA).get("reason"))
        except ValueError:
            reason = "unreadable"
        shown = "".join(letter for letter in reason if letter.isprintable())[:_REASON_CHARS]
        mend = "see to the reason, then run archiver deletions resume"
        return amber("deletions", f"paused: {shown}", mend)
    if delay is None:
        return green("deletions", "Twilio keeps everything (TWILIO_DELETE=never)")
    if delay == timedelta(0):
        return green("deletions", "a source is deleted as soon as its archive is verified")
    return green("deletions", f"a source is deleted {delay} after it was archived")
