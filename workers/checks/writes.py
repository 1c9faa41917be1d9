"""Try in the scratch prefix what archiving relies on: writes, checksums, conditions, locks, denials."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from app.settings import WorkerSettings
from workers.archive import composite_checksum
from workers.checks.object_lock import one_day, try_lock
from workers.checks.results import Result, State, amber, green, red, skipped
from workers.checks.scratch import FOLDER, Scratch, sha256
from workers.checks.store import Reply, Store

_READBACK: Final = "set ARCHIVE_VERIFY=readback"
_CONDITIONAL: Final = f"use a store that knows conditional writes, or {_READBACK}"
_TWINS: Final = "nothing with readback, which looks before it writes; but then Redis alone keeps twins apart"
_COMPARED: Final = "nothing: ARCHIVE_VERIFY=readback compares the bytes themselves"
_WRONG_ETAG: Final = f'"{"0" * 32}"'


@dataclass(frozen=True, slots=True)
class Writes:
    """The store and the settings that it has to fit, with the scratch objects of this run."""

    store: Store
    settings: WorkerSettings
    scratch: Scratch

    def check(self) -> Iterator[Result]:
        """Write, look, try what must be refused, and clean up."""
        self.scratch.remove_stale()
        try:
            yield from self._try()
        finally:
            cleaned = self.scratch.clean_up()
        yield cleaned

    def _try(self) -> Iterator[Result]:
        body, key = secrets.token_hex(16).encode(), f"{self.scratch.folder}object"
        reply = self.scratch.put(key, body, **self.scratch.once)
        if not reply.ok:
            yield self._not_written(key, body, reply)
            return
        yield green("write", f"to {self.store.archive.prefix}{FOLDER}")
        yield from self._kept(key, body)
        yield self._wrong_checksum()
        yield self._overwritten(key)
        yield self._replaced(key)
        yield self._read(key)
        yield from self._multipart()
        yield from self._storage_class()
        yield from self._locked()
        yield self._removed(key)
        yield self._media_deletable()

    def _not_written(self, key: str, body: bytes, refusal: Reply) -> Result:
        """Leave out one thing at a time: what it then works without is what the store does not take."""
        usual = self.scratch.once
        parts = (
            (("ServerSideEncryption", "BucketKeyEnabled", "SSEKMSKeyId"), "ARCHIVE_SSE and ARCHIVE_KMS_KEY_ID"),
            (("ObjectLockMode", "ObjectLockRetainUntilDate"), "a retention"),
            (("IfNoneMatch",), "If-None-Match"),
        )
        mends = {
            "a retention": "allow s3:PutObjectRetention on the bucket's objects",
            "If-None-Match": "use a store that knows conditional writes: this one refuses them",
            "ARCHIVE_SSE and ARCHIVE_KMS_KEY_ID": "correct them, or allow kms:GenerateDataKey and kms:Decrypt on it",
        }
        for names, what in parts:
            rest = {name: value for name, value in usual.items() if name not in names}
            if rest != usual and self.scratch.put(key, body, **rest).ok:
                return red("write", f"S3 refuses it with {what}: {refusal.words}", mends[what])
        plain = self.store.ask("put_object", Key=key, Body=body, **self.scratch.lock.explicit)
        self.scratch.note(key, plain)
        if plain.ok:
            mend = "use a store that takes x-amz-checksum-sha256: this one refuses it"
            return red("write", f"S3 refuses it with a SHA-256 checksum: {refusal.words}", mend)
        mend = f"allow s3:PutObject on arn:aws:s3:::{self.store.archive.bucket}/{self.store.archive.prefix}*"
        return red("write", f"S3 refuses it: {refusal.words}", refusal.mend(mend))

    def _kept(self, key: str, body: bytes) -> Iterator[Result]:
        head = self.store.ask("head_object", Key=key, ChecksumMode="ENABLED")
        if not head.ok:
            mend = head.mend("allow s3:GetObject on its objects")
            yield red("checksum", f"the object can't be looked at: {head.words}", mend)
            return
        yield self._judge_checksum("checksum", head.fields.get("ChecksumSHA256"), sha256(body))
        wanted, got = self.settings.ARCHIVE_SSE, head.fields.get("ServerSideEncryption")
        if wanted and wanted != got:
            mend = "use a store that encrypts, or unset ARCHIVE_SSE: every recording would be refused after its upload"
            yield red("encryption", f"asked for {wanted}, S3 reports {got or 'none'}", mend)
        elif wanted:
            yield green("encryption", f"{got}, as ARCHIVE_SSE says")

    def _judge_checksum(self, name: str, reported: object, ours: str) -> Result:
        reads_back = self.settings.ARCHIVE_VERIFY == "readback"
        if reported == ours:
            return green(name, "S3 holds the same SHA-256" + ("; readback compares the bytes" if reads_back else ""))
        if reported is not None:
            return red(name, "S3 reports another SHA-256 than that of the bytes", "do not use this store")
        if reads_back:
            return green(name, "S3 holds none; ARCHIVE_VERIFY=readback compares the bytes")
        return red(name, "S3 holds no SHA-256 of the object", _READBACK)

    def _lenient(self, name: str, found: str, mend: str, with_readback: str) -> Result:
        """Judge what `readback` can do without, and `checksum` can't."""
        if self.settings.ARCHIVE_VERIFY == "readback":
            return amber(name, found, with_readback)
        return red(name, found, mend)

    def _wrong_checksum(self) -> Result:
        name, key = "wrong checksum", f"{self.scratch.folder}wrong-checksum"
        reply = self.scratch.put(key, b"one", checksum=sha256(b"another"), **self.scratch.once)
        if reply.ok:
            return self._lenient(name, "S3 takes bytes that do not fit their checksum", _READBACK, _COMPARED)
        if reply.status == 400:
            return green(name, f"refused ({reply.words})")
        return skipped(name, f"S3 answers {reply.words}")

    def _overwritten(self, key: str) -> Result:
        name, reply = "overwriting", self.scratch.put(key, b"other bytes", **self.scratch.once)
        if reply.status == 412:
            return green(name, "refused (If-None-Match)")
        found = "S3 overwrites despite If-None-Match" if reply.ok else f"If-None-Match is answered {reply.words}"
        return self._lenient(name, found, _CONDITIONAL, _TWINS)

    def _replaced(self, key: str) -> Result:
        """Change a document as quarantine does: only if nobody else has."""
        name, others = "changing", self.scratch.options
        stale = self.scratch.put(key, b"a stale change", IfMatch=_WRONG_ETAG, **others)
        if stale.status != 412:
            found = "S3 ignores If-Match" if stale.ok else f"If-Match is answered {stale.words}"
            return self._lenient(name, found, _CONDITIONAL, _TWINS)
        etag = self.store.ask("head_object", Key=key).fields.get("ETag", "")
        if self.scratch.put(key, b"a change", IfMatch=etag, **others).ok:
            return green(name, "only what nobody else has changed (If-Match)")
        return self._lenient(name, "S3 refuses If-Match with the right ETag", _CONDITIONAL, _TWINS)

    def _read(self, key: str) -> Result:
        reply = self.store.ask("get_object", Key=key)
        if reply.ok and reply.fields["Body"].read():
            return green("reading back", "works")
        mend = "allow s3:GetObject on the bucket's objects, and kms:Decrypt on the key"
        return red("reading back", f"S3 answers {reply.words}", mend)

    def _multipart(self) -> Iterator[Result]:
        """Upload in parts as recordings above 8 MiB are, and abort another upload."""
        name, key, lock = "large recordings", f"{self.scratch.folder}parts", self.scratch.lock
        retained = one_day() if self.settings.ARCHIVE_OBJECT_LOCK_MODE and lock.enabled else lock.explicit
        options = {"ChecksumAlgorithm": "SHA256", **self.store.archive.write_options, **retained}
        body = b"a part"
        done = self._upload(key, body, options)
        if not done.ok:
            mend = f"allow s3:PutObject and s3:AbortMultipartUpload on {self.store.archive.prefix}*"
            yield red(name, f"an upload in parts is answered {done.words}", mend)
            return
        self.scratch.note(key, done)
        head = self.store.ask("head_object", Key=key, ChecksumMode="ENABLED")
        yield self._judge_checksum(name, head.fields.get("ChecksumSHA256"), composite_checksum([sha256(body)]))
        if retained and head.fields.get("ObjectLockMode") is None:
            mend = "use a store that keeps Object Lock on uploads in parts: recordings above 8 MiB would be refused"
            yield red("large and locked", "S3 drops the retention of an upload in parts", mend)
        gone = self._abort(f"{self.scratch.folder}aborted", options)
        if not gone.ok:
            mend = "allow s3:AbortMultipartUpload on the bucket's objects: parts of failed uploads cost money"
            yield amber("aborting", f"S3 answers {gone.words}", mend)

    def _upload(self, key: str, body: bytes, options: dict[str, Any]) -> Reply:
        """Upload one part and complete; return the last answer."""
        started = self.store.ask("create_multipart_upload", Key=key, **options)
        if not started.ok:
            return started
        target: dict[str, Any] = {"Key": key, "UploadId": started.fields["UploadId"]}
        done = self.store.ask("upload_part", PartNumber=1, Body=body, ChecksumSHA256=sha256(body), **target)
        if done.ok:
            part = {"PartNumber": 1, "ETag": done.fields.get("ETag", ""), "ChecksumSHA256": sha256(body)}
            done = self.store.ask(
                "complete_multipart_upload",
                MultipartUpload={"Parts": [part]},
                ChecksumSHA256=composite_checksum([sha256(body)]),
                MpuObjectSize=len(body),
                IfNoneMatch="*",
                **target,
            )
        if not done.ok:
            self.store.ask("abort_multipart_upload", **target)
        return done

    def _abort(self, key: str, options: dict[str, Any]) -> Reply:
        started = self.store.ask("create_multipart_upload", Key=key, **options)
        if not started.ok:
            return started
        return self.store.ask("abort_multipart_upload", Key=key, UploadId=started.fields["UploadId"])

    def _storage_class(self) -> Iterator[Result]:
        wanted, name = self.settings.ARCHIVE_STORAGE_CLASS, "storage class"
        if wanted == "STANDARD":
            return
        key = f"{self.scratch.folder}storage-class"
        reply = self.scratch.put(key, b"a class", StorageClass=wanted, **self.scratch.once)
        got = self.store.ask("head_object", Key=key).fields.get("StorageClass", "STANDARD") if reply.ok else None
        if got == wanted:
            yield green(name, wanted)
        else:
            found = f"S3 answers {reply.words} to {wanted}" if got is None else f"asked for {wanted}, S3 reports {got}"
            yield red(name, found, "set ARCHIVE_STORAGE_CLASS to a class that this store has")

    def _locked(self) -> Iterator[Result]:
        mode = self.settings.ARCHIVE_OBJECT_LOCK_MODE
        if not self.scratch.lock.enabled:
            yield skipped("legal hold", "needs Object Lock, which the bucket does not have")
            return
        key = f"{self.scratch.folder}locked"
        reply = self.scratch.put(key, b"locked", **{**self.scratch.once, **one_day()})
        if not reply.ok:
            mend = "allow s3:PutObjectRetention on the bucket's objects"
            yield (red if mode else amber)("lock kept", f"a retention is answered {reply.words}", mend)
            return
        for result in try_lock(self.store, mode, key, str(reply.fields.get("VersionId"))):
            yield result if mode or result.state is not State.RED else amber(result.name, result.found, result.mend)

    def _removed(self, key: str) -> Result:
        """Remove a document as a resolved quarantine is, which leaves its versions where there are any."""
        reply = self.store.ask("delete_object", Key=key)
        if reply.fields.get("DeleteMarker"):
            self.scratch.note(key, reply)
        if reply.ok:
            return green("removing documents", "works")
        prefix = self.store.archive.prefix
        mend = f"allow s3:DeleteObject on {prefix}quarantine/* and {prefix}control/*"
        return red("removing documents", f"S3 answers {reply.words}", mend)

    def _media_deletable(self) -> Result:
        """Ask for the deletion of a version that does not exist, where recordings are kept: harmless, and telling."""
        name = "deleting media"
        key = f"{self.store.archive.prefix}recordings/check-{secrets.token_hex(16)}"
        reply = self.store.ask("delete_object", Key=key, VersionId="null")
        if reply.denied:
            return green(name, "not allowed to these credentials")
        if not reply.ok:
            return skipped(name, f"the store answers {reply.words}")
        if self.settings.ARCHIVE_OBJECT_LOCK_MODE and self.scratch.lock.enabled:
            return green(name, "allowed to these credentials, but Object Lock forbids it while retention lasts")
        mend = "deny s3:DeleteObject and s3:DeleteObjectVersion to these credentials but for quarantine/ and control/"
        return amber(name, "these credentials may delete archived recordings", mend)
