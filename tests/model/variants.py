"""The settings under which histories run: what the product is told, what kind of bucket there is, and what follows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from app.settings import WebSettings, WorkerSettings, load
from tests.model.s3 import Traits

MAIN, SUB = "AC" + "a1" * 16, "AC" + "b2" * 16
STRANGER = "AC" + "0e" * 16
TOKENS = {MAIN: ["main-token-5eb1f0c2", "next-token-77aa41d9"], SUB: ["sub-token-c0ffee42", "sub-next-1badcafe"]}
API_KEY, API_SECRET = "SK" + "5e" * 16, "api-secret-9d3f7b60"
PUBLIC_URL = "https://archive.example.com/twilio"
PART_BYTES = 40_000  # so that a recording of two seconds has two parts

_COMMON = {
    "TWILIO_ACCOUNT_SID": MAIN,
    "TWILIO_AUTH_TOKEN": ",".join(TOKENS[MAIN]),
    "TWILIO_ACCOUNTS": json.dumps([{"account_sid": SUB, "auth_tokens": TOKENS[SUB]}]),
    "REDIS_URL": "redis://:redis-password-3141@127.0.0.1:1/0",
    "ARCHIVE_BUCKET": "archive",
}
SECRETS = [token for tokens in TOKENS.values() for token in tokens] + [API_SECRET, "redis-password-3141"]


_ORDINARY = Traits(min_part_bytes=PART_BYTES)


@dataclass(frozen=True)
class Variant:
    """`environ` is what differs from the defaults; the rest says, in the harness's own words, what that means."""

    name: str
    environ: Mapping[str, str] = field(default_factory=dict)
    traits: Traits = _ORDINARY
    prefix: str = ""
    extension: str = "wav"
    delete_after: timedelta | None = timedelta(0)
    retention: timedelta | None = None
    lock_mode: str | None = None
    sse: str = "AES256"
    kms_key_id: str | None = None
    storage_class: str = "STANDARD"
    quarantine_after: int = 5
    lookback: timedelta = timedelta(days=2)
    readback: bool = False

    @cached_property
    def settings(self) -> WorkerSettings:
        """What a worker reads from its environment."""
        return load(WorkerSettings, {**_COMMON, **self.environ})

    @cached_property
    def web(self) -> WebSettings:
        """What the endpoint reads from its environment."""
        return load(WebSettings, {**_COMMON, "PUBLIC_URL": PUBLIC_URL})


def _traits(**changes: Any) -> Traits:
    return replace(_ORDINARY, **changes)


_KMS_ARN = "arn:aws:kms:eu-central-1:111122223333:key/5c6f"
_LOCK = {"ARCHIVE_OBJECT_LOCK_MODE": "COMPLIANCE", "ARCHIVE_RETENTION_DAYS": "30"}

PLAIN = Variant("plain")
VARIANTS = (
    PLAIN,
    Variant("never", {"TWILIO_DELETE": "never"}, delete_after=None),
    Variant("delay", {"TWILIO_DELETE": "24h"}, delete_after=timedelta(hours=24)),
    Variant(
        "locked",
        {**_LOCK, "ARCHIVE_PREFIX": "calls/"},
        traits=_traits(object_lock=True),
        prefix="calls/",
        retention=timedelta(days=30),
        lock_mode="COMPLIANCE",
    ),
    Variant(
        "lock already past",
        {"ARCHIVE_OBJECT_LOCK_MODE": "GOVERNANCE", "ARCHIVE_RETENTION_DAYS": "1"},
        traits=_traits(object_lock=True),
        retention=timedelta(days=1),
        lock_mode="GOVERNANCE",
    ),
    Variant(
        "default retention",
        {"ARCHIVE_OBJECT_LOCK_MODE": "GOVERNANCE", "ARCHIVE_RETENTION_DAYS": "2"},
        traits=_traits(object_lock=True, default_days=7),
        retention=timedelta(days=2),
        lock_mode="GOVERNANCE",
    ),
    Variant("readback", {"ARCHIVE_VERIFY": "readback"}, traits=_traits(checksums=False), readback=True),
    Variant(
        "mp3",
        {"ARCHIVE_FORMAT": "mp3", "ARCHIVE_STORAGE_CLASS": "STANDARD_IA", "QUARANTINE_AFTER": "2"},
        extension="mp3",
        storage_class="STANDARD_IA",
        quarantine_after=2,
    ),
    Variant(
        "kms",
        {"ARCHIVE_SSE": "aws:kms", "ARCHIVE_KMS_KEY_ID": _KMS_ARN, "ARCHIVE_BUCKET_OWNER": "111122223333"},
        sse="aws:kms",
        kms_key_id=_KMS_ARN,
    ),
    Variant("unversioned", traits=_traits(versioning=False)),
    Variant("short lookback", {"SWEEP_LOOKBACK": "1h", "SWEEP_GRACE": "30s"}, lookback=timedelta(hours=1)),
    Variant("api key", {"TWILIO_API_KEY": API_KEY, "TWILIO_API_SECRET": API_SECRET}),
)
