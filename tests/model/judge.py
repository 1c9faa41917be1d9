"""The invariants of the product, judged by what the stand-ins know and never by what the product says.

1, 3, 4, 5 and 7 are judged in the moment in which something is done, 6 in everything that is written anywhere. What
is judged of a DELETE is the truth of that moment; only what has changed since the worker's last look, which was a few
calls ago at most, is nobody's fault.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any

from tests.model.audio import MARK
from tests.model.layout import Keys, Place, place_of
from tests.model.recordings import ENCRYPTION, PHONE_NUMBERS, Recording
from tests.model.s3 import S3, Version
from tests.model.schedule import Call, Strand, this_strand
from tests.model.twilio import Twilio
from tests.model.variants import API_KEY, MAIN, SECRETS, SUB, Variant
from tests.model.wire import basic_auth

LOOK_CALLS = 7  # how many calls ago a look may be that allows a DELETE, beside those for the document that says so
PATIENCE = timedelta(hours=24)  # with transcriptions that do not come to their end
HOSTILE = "hostile-marker"
MISSING = "the media, which is missing"
COMPLETE_DAYS = "control/complete-days/"  # all that the product may take back of what it or a person has said there
_HEADERS = [basic_auth(user, "")[len("Basic ") :][:40] for user in (MAIN, SUB, API_KEY)]  # how credentials begin there
_SECRET = re.compile("|".join(map(re.escape, (*SECRETS, *PHONE_NUMBERS, MARK.decode(), HOSTILE, *_HEADERS))))
_ENCRYPTION = {
    "type": "rsa-aes",
    "public_key_sid": ENCRYPTION["encryption_public_key_sid"],
    "encrypted_cek": ENCRYPTION["encryption_cek"],
    "iv": ENCRYPTION["encryption_iv"],
}


class ViolationError(AssertionError):
    """An invariant does not hold."""


class Judge:
    """Sees every change in S3, every DELETE and every line of the logs. `ahead_s` is how far clocks may be wrong."""

    def __init__(self, variant: Variant, moment: Callable[[], datetime], note: Callable[[str], object]) -> None:
        self.variant = variant
        self.violations: list[str] = []
        self.ahead_s = 0.0
        self.changes = 0  # by the product
        self.alerts: list[dict[str, Any]] = []
        self.s3: S3
        self.twilio: Twilio
        self._moment = moment
        self._note = note
        self._changed: dict[str, int] = {}
        self._call_number = 0

    def blame(self, what: str) -> None:
        """Note a violation, where it belongs in the history, too."""
        self.violations.append(what)
        self._note(what)

    def began(self, call: Call) -> None:
        """Be told that a call is being made."""
        self._call_number = call.number

    # Logs, messages and errors

    def read(self, where: str, text: str) -> None:
        """Judge a text that others may see: invariant 6."""
        if found := _SECRET.search(text):
            self.blame(f"6: {found[0]!r} in {where}: {text[:300]}")

    def logged(self, event: dict[str, Any]) -> None:
        """Judge a line of the logs."""
        self.read("the logs", repr(event))
        if event["level"] == "error":
            self.alerts.append(event)
        if event["event"] == "attempt_crashed":
            self.blame(f"a step crashed: {event}")
        if event["event"] == "recording_quarantined":
            is_time = event["attempts"] >= self.variant.quarantine_after
            if (event["level"] == "error") != is_time:
                self.blame(f"2: a person is called too late or too early: {event}")

    # Changes in S3

    def changed(self, version: Version, previous: Version | None) -> None:
        """Judge what has become the latest version under a key."""
        self._changed[version.key] = self._call_number
        if this_strand() is None:
            return  # somebody else than the product
        place = place_of(self.variant.prefix, version.key)
        if place is None:
            self.blame(f"a key that is not in the layout: {version.key}")
            return
        self.changes += place.kind not in ("quarantine", "control")  # what is tried every day, and its own notes
        if version.body is None:
            if place.kind != "quarantine" and not version.key.startswith(f"{self.variant.prefix}{COMPLETE_DAYS}"):
                self.blame(f"3: removed {version.key}")
            return
        if previous is not None and place.kind not in ("quarantine", "transcriptions", "reports"):
            self.blame(f"3: overwritten {version.key}")
        recording = self.twilio.recordings.get(place.sid)
        if place.kind in ("control", "reports"):
            return
        if place.kind == "quarantine" and recording is not None:
            self.read("metadata", f"{version.metadata}")
            if not (recording.wronged or recording.tampered):
                self.blame(f"2: in quarantine though nothing is wrong with it: {version.key}")
            return
        if recording is None or place.account != recording.account_sid:
            if place.kind != "absences" or place.day != "day=undated":
                self.blame(f"7: {version.key} of a recording that does not exist")
            return
        self._judge_document(place, recording, version)

    def _judge_document(self, place: Place, recording: Recording, version: Version) -> None:
        keys = Keys(self.variant.prefix, recording)
        if place.kind == "index":
            if version.key not in keys.index or version.body:
                self.blame(f"an index that says something else than it should: {version.key}")
            return
        if place.day != keys.day and not (place.kind == "absences" and place.day == "day=undated"):
            self.blame(f"filed under another day: {version.key}")
        if place.kind == "recordings":
            self._judge_media(place, recording, version, keys)
        elif place.kind == "receipts":
            self._judge_receipt(recording, version, keys)
        elif place.kind == "absences":
            self._judge_absence(place, recording, version)
        elif place.kind in ("deletions", "requested"):
            self._judge_deletion(place, recording, version, keys)
        if place.kind != "transcriptions" and place.day == keys.day:
            self._judge_retention(recording, version)

    def _judge_receipt(self, recording: Recording, version: Version, keys: Keys) -> None:
        """Judge what proves the archival: it says what is so, of what was looked at a moment ago."""
        strand = this_strand()
        assert strand is not None
        found = self.disagreements(recording, version, as_stated=True)
        for what, where in found.items():
            meddled = recording.tampered and where[0] != version.key and self._has_changed_since(strand, where[0])
            if not meddled:
                self.blame(f"1: a receipt and {what}: {version.key}")
        if any(self.s3.latest(key) is None for key in keys.index):
            self.blame(f"a receipt before its index: {version.key}")
        said = json.loads(version.body or b"")
        facts = {
            "call_sid": recording.call_sid,
            "conference_sid": recording.conference_sid,
            "encryption": _ENCRYPTION if recording.encrypted else None,
        }
        wrong = [name for name, fact in facts.items() if said.get(name) != fact]
        if wrong or said["source"].get("sid") != recording.sid:
            self.blame(f"a receipt that says wrongly {wrong or 'what Twilio said'}: {version.key}")

    def _judge_absence(self, place: Place, recording: Recording, version: Version) -> None:
        """Judge what says that there is no audio: REST has said so, or has shown nothing beside a callback's word."""
        strand, said = this_strand(), json.loads(version.body or b"")
        is_undated = place.day == "day=undated"
        denied = is_undated and recording.rumoured and strand is not None and strand.shown == 404
        if recording.has_media and not denied:
            self.blame(f"2: an absence of a recording that has audio: {version.key}")
        externally = recording.external and not is_undated
        if (said["recording_sid"], said["account_sid"]) != (recording.sid, recording.account_sid) or (
            (said["reason"] == "stored_externally") != externally
        ):
            self.blame(f"2: an absence for another reason, {said['reason']}: {version.key}")

    def _judge_deletion(self, place: Place, recording: Recording, version: Version, keys: Keys) -> None:
        """Judge what was written down before a DELETE, or what proves it."""
        receipt, said = self.s3.latest(keys.of("receipts")), json.loads(version.body or b"")
        if place.kind == "deletions" and recording.deleted is None:
            self.blame(f"1: a proof of a deletion that has not happened: {version.key}")
        if receipt is None:
            self.blame(f"1: {version.key} without a receipt")
            return
        named = {"key": receipt.key, "version_id": None if receipt.version_id == "null" else receipt.version_id}
        sids = (said["recording_sid"], said["account_sid"])
        if sids != (recording.sid, recording.account_sid) or (said["receipt"] != named and not recording.tampered):
            self.blame(f"1: {version.key} is about another receipt: {said['receipt']}")

    def _judge_media(self, place: Place, recording: Recording, version: Version, keys: Keys) -> None:
        extension = "wav" if recording.encrypted else self.variant.extension
        if place.extension != extension:
            self.blame(f"3: {version.key} should have been {extension}")
        if not recording.has_media or version.body != recording.best(extension):
            self.blame(f"4: {version.key} is not what Twilio has: {len(version.body or b'')} bytes")
        if version.storage_class != self.variant.storage_class or version.sse != self.variant.sse:
            self.blame(f"{version.key} is not stored as the settings say")
        self._judge_metadata(recording, version)

    def _judge_metadata(self, recording: Recording, version: Version) -> None:
        self.read("metadata", f"{version.key} {version.metadata}")
        said = dict(version.metadata)
        digest = said.pop("sha256", None)
        if said != _metadata(recording) or digest not in (None, _digest(version.body or b"")):
            self.blame(f"metadata that say something else than they should: {version.key} {version.metadata}")

    def _judge_retention(self, recording: Recording, version: Version) -> None:
        variant, now = self.variant, self._moment()
        if variant.retention is None:
            return
        until, default = recording.created + variant.retention, timedelta(days=variant.traits.default_days)
        slack = timedelta(seconds=self.ahead_s + 60)
        if until > now + slack and (
            version.lock_mode != variant.lock_mode
            or version.retain_until is None
            or not until <= version.retain_until <= max(until, now + default) + slack
        ):
            self.blame(f"{version.key} is kept until {version.retain_until} and not {until}")
        elif version.retain_until is not None and version.retain_until > max(until, now + default) + slack:
            self.blame(f"{version.key} is kept until {version.retain_until}, longer than {until}")

    # What a receipt proves

    def disagreements(
        self, recording: Recording, filed: Version, *, as_stated: bool = False
    ) -> dict[str, tuple[str, ...]]:
        """Return in what a receipt, the media in S3 and Twilio's bytes do not agree, with the keys that show it.

        S3 may keep the media longer than a receipt says, but not `as_stated`: when it is written. What it is about then
        is the version that it names and that was looked at, whatever somebody has put upon that.
        """
        extension = "wav" if recording.encrypted else self.variant.extension
        key = Keys(self.variant.prefix, recording).of("recordings", extension)
        media, truth = self.s3.latest(key), recording.best(extension)
        try:
            stated = json.loads(filed.body or b"")
            said, kept, proof = stated["media"], stated["storage"], stated["verification"]
        except (ValueError, KeyError, TypeError):
            return {"nothing agree, for it is none": (filed.key,)}
        if as_stated and recording.tampered:
            named = (version for version in self.s3.versions(key) if version.version_id == said["version_id"])
            media = next(named, media)
        if media is None or media.body is None:
            return {MISSING: (key,)}
        wrong = {
            "Twilio's bytes": (_digest(truth), len(truth)) == (said["sha256"], said["bytes"]),
            "the recording": (stated["recording_sid"], stated["account_sid"]) == (recording.sid, recording.account_sid),
            "the key": (said["key"], said["bucket"]) == (key, self.s3.traits.name),
        }
        found = {what: (filed.key,) for what, agrees in wrong.items() if not agrees}
        at_media = {
            "the bytes in S3": media.body == truth,
            "the version": (said["version_id"] or "null") == media.version_id,
            "the checksum": proof["checksum"] == (None if self.variant.readback else media.checksum),
            "the encryption": (kept["sse"], kept["kms_key_id"]) == (media.sse, media.kms_key_id),
            "the retention": _is_kept(kept, media, as_stated=as_stated),
        }
        return found | {what: (key, filed.key) for what, agrees in at_media.items() if not agrees}

    # The DELETE

    def deleting(self, strand: Strand, call: Call) -> None:
        """Judge a DELETE that is being sent, whatever will be answered: invariants 1 and 7."""
        sid = call.target.rpartition("/")[2].partition(".")[0]
        recording = self.twilio.recordings.get(sid)
        if recording is None or not call.target.startswith(recording.account_sid):
            self.blame(f"7: a DELETE of something unknown: {call.target}")
            return
        for what, keys in self._objections(recording).items():
            if not any(self._has_changed_since(strand, key) for key in keys):
                self.blame(f"1: a DELETE of {sid} although {what} {keys}")
        if recording.deleted is None and recording.transcriptions:
            self._judge_texts(recording, strand)

    def _judge_texts(self, recording: Recording, strand: Strand) -> None:
        """Blame a DELETE by which texts vanish that are not kept, or that could still have come to their end."""
        kept = self.s3.latest(Keys(self.variant.prefix, recording).of("transcriptions"))
        texts = json.loads(kept.body or b"")["transcriptions"] if kept else []
        if not strand.texts <= {text["sid"] for text in texts if text["transcription_text"]}:
            self.blame(f"a DELETE of {recording.sid} whose transcriptions are not kept")
        waited = self._moment() - recording.created > PATIENCE - timedelta(seconds=2 * self.ahead_s)
        if len(strand.texts) < len(recording.transcriptions) and not waited:
            self.blame(f"a DELETE of {recording.sid} that breaks a transcription")

    def _has_changed_since(self, strand: Strand, key: str) -> bool:
        """Tell whether something has changed since a strand has looked at it, a few calls ago."""
        seen = strand.reads.get(key)
        if seen is None or self._changed.get(key, 0) < seen:
            return False
        calls = [call for call in strand.calls if "deletions/account=" not in call.target]
        return len(calls) < LOOK_CALLS or calls[-LOOK_CALLS].number <= seen

    def _objections(self, recording: Recording) -> dict[str, tuple[str, ...]]:
        """Return what forbids to delete a source now, each with the keys where that is seen."""
        keys, latest = Keys(self.variant.prefix, recording), self.s3.latest
        receipt = latest(keys.of("receipts"))
        if receipt is None:
            return {"there is no receipt": (keys.of("receipts"),)}
        found = {
            f"the receipt disagrees with {what}": seen for what, seen in self.disagreements(recording, receipt).items()
        }
        media = latest(keys.of("recordings", "wav" if recording.encrypted else self.variant.extension))
        paused = f"{self.variant.prefix}control/deletions-paused.json"
        if media is not None and media.legal_hold:
            found["there is a legal hold"] = (media.key,)
        if latest(keys.hold) is not None:
            found["a hold is asked for"] = (keys.hold,)
        if latest(keys.of("quarantine")) is not None:
            found["it is in quarantine"] = (keys.of("quarantine"),)
        if latest(paused) is not None:
            found["deletions are paused"] = (paused,)
        if latest(keys.of("deletions", "requested.json")) is None:
            found["no request was written"] = ()
        delay = self.variant.delete_after
        if delay is None:
            found["the settings say never"] = ()
        elif self._moment() < receipt.modified + delay - timedelta(seconds=2 * self.ahead_s):
            found["it is too early"] = ()
        return found


@lru_cache(maxsize=2048)
def _digest(truth: bytes) -> str:
    """Return the digest of what Twilio has: the same bytes, again and again."""
    return sha256(truth).hexdigest()


def _metadata(recording: Recording) -> dict[str, str]:
    """Return what goes with the media, but for its digest."""
    said: dict[str, str | None] = {
        "account-sid": recording.account_sid,
        "call-sid": recording.call_sid,
        "conference-sid": recording.conference_sid,
        "recording-sid": recording.sid,
        "start-time": f"{recording.created:%Y-%m-%dT%H:%M:%S}.000Z",
        "duration": str(round(recording.seconds)),
        "channels": str(recording.channels),
        "source": "Conference" if recording.conference_sid else "DialVerb",
    }
    if recording.encrypted:
        details = {name.removeprefix("encrypted_").replace("_", "-"): value for name, value in _ENCRYPTION.items()}
        said |= {f"encryption-{name}": value for name, value in details.items()}
    return {name: value for name, value in said.items() if value is not None}


def _is_kept(stated: dict[str, Any], media: Version, *, as_stated: bool) -> bool:
    until = None if stated["retain_until"] is None else datetime.fromisoformat(stated["retain_until"])
    kept = media.retain_until
    if as_stated:
        to_the_ms = kept and kept.replace(microsecond=kept.microsecond // 1000 * 1000)
        return (stated["object_lock_mode"], until) == (media.lock_mode, to_the_ms)
    if until is None:
        return True
    return kept is not None and kept >= until and media.lock_mode in (stated["object_lock_mode"], "COMPLIANCE")
