"""Judge from the outside what became of recordings: reads the simulator and S3, and shares no code with the product."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deploy.local.twilio import Simulator

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass
class Watched:
    """One recording, at the source and in S3. Sizes in bytes, digests in lower-case hex."""

    kind: str
    recording_sid: str
    absent: bool
    channels: int
    seconds: float
    bytes: int
    source_sha256: str
    key: str | None = None
    archived_sha256: str | None = None
    receipt: dict[str, Any] | None = None
    absence: dict[str, Any] | None = None
    deletion: dict[str, Any] | None = None
    gone: bool = False
    complaints: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether S3 holds exactly what the source would serve."""
        return self.archived_sha256 == self.source_sha256

    @property
    def right(self) -> bool:
        """Whether the recording ended as promised."""
        if self.complaints:
            return False
        if self.absent:
            return self.absence is not None and self.key is None
        return self.same and self.receipt is not None and self.gone and self.deletion is not None

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.right or bool(self.complaints)

    @property
    def state(self) -> str:
        """One word for how far it has come."""
        if self.complaints:
            return "WRONG"
        if self.absent:
            return "no audio" if self.absence else "waiting"
        for state, reached in (
            ("deleted", self.deletion is not None and self.gone),
            ("deleting", self.gone),
            ("archived", self.receipt is not None),
            ("stored", self.key is not None),
        ):
            if reached:
                return state
        return "waiting"


class Observer:
    """Compares, on every `look`, what the simulator knows with what the bucket holds."""

    def __init__(self, simulator: Simulator, s3: "S3Client", bucket: str) -> None:
        self._simulator = simulator
        self._s3 = s3
        self._bucket = bucket
        self._watched: dict[str, Watched] = {}

    @property
    def watched(self) -> list[Watched]:
        """Every watched recording, in the order in which they were played."""
        return list(self._watched.values())

    @property
    def all_right(self) -> bool:
        """Whether every recording ended as promised."""
        return all(each.right for each in self.watched)

    def watch(self, kind: str, recording_sid: str) -> None:
        """Remember what the source would serve on the best rung of the channel ladder."""
        recording = self._simulator.recordings[recording_sid]
        absent = recording.status == "absent"
        channels = 0 if absent else recording.channels
        media = None if absent else self._simulator.media(recording_sid, channels)
        self._watched[recording_sid] = Watched(
            kind=kind,
            recording_sid=recording_sid,
            absent=absent,
            channels=channels,
            seconds=recording.seconds,
            bytes=media.length if media else 0,
            source_sha256=media.sha256 if media else "",
        )

    def look(self) -> None:
        """Read the source and then the bucket once: what was gone before must be proven after."""
        gone = {sid for sid in self._watched if self._simulator.recordings[sid].deleted_at is not None}
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            for item in page.get("Contents", ()):
                self._see(item["Key"])
        for sid in gone:
            each = self._watched[sid]
            each.gone = True
            if not (each.receipt and each.same):
                self._complain(each, "deleted at the source without a proven copy")

    def _see(self, key: str) -> None:
        collection, name = key.split("/")[0], key.rpartition("/")[2]
        each = self._watched.get(name.partition(".")[0])
        if each is None or name.endswith(".requested.json"):
            return
        if collection == "recordings":
            if each.key not in (None, key):
                self._complain(each, "two objects")
            if each.key is None:
                each.key, each.archived_sha256 = key, self._digest(key)
                if not each.same:
                    self._complain(each, "other bytes in S3 than at the source")
        elif collection == "receipts" and each.receipt is None:
            each.receipt = self._document(key)
            if each.receipt["media"]["sha256"] != each.source_sha256:
                self._complain(each, "a receipt of other bytes")
        elif collection == "deletions" and each.deletion is None:
            each.deletion = self._document(key)
        elif collection == "absences" and each.absence is None:
            each.absence = self._document(key)

    def _digest(self, key: str) -> str:
        digest = hashlib.sha256()
        for block in self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(1 << 20):
            digest.update(block)
        return digest.hexdigest()

    def _document(self, key: str) -> dict[str, Any]:
        document: dict[str, Any] = json.load(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"])
        return document

    @staticmethod
    def _complain(each: Watched, complaint: str) -> None:
        if complaint not in each.complaints:
            each.complaints.append(complaint)
