"""Judge a run that has come to rest by its evidence alone; shares no code with the product.

Every rule is one of the seven invariants, as it shows from the outside, with the layout of the archive written down
here once more. Nothing here is told what was done to the run.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tests.chaos import statements
from tests.chaos.evidence import Asked, Download, Evidence, Truth, Version

PAUSED = "control/deletions-paused.json"
WRITTEN_ONCE = ("recordings/", "receipts/", "deletions/", "absences/", "index/")
# What may be filed under the day of a recording, and how its names end.
_BY_DAY = {
    "recordings": ("wav", "mp3"),
    "receipts": ("json",),
    "deletions": ("json", "requested.json"),
    "absences": ("json",),
    "quarantine": ("json",),
    "transcriptions": ("json",),
}
_OF_NOBODY = re.compile(r"control/deletions-paused\.json|reports/day=\d{4}-\d{2}-\d{2}/audit\.(json|csv|html)")
_SID = re.compile(r"RE[0-9a-f]{32}")
_PUTS, _READS = ("PutObject", "CompleteMultipartUpload"), ("GetObject", "HeadObject")


@dataclass(frozen=True)
class Finding:
    """One breach of one rule; `recording_sid` is None where it is not of one recording."""

    rule: str
    recording_sid: str | None
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.recording_sid or 'the bucket'}: {self.detail}"


@dataclass(frozen=True)
class Verdict:
    """What came of a run: how many recordings ended how, and what was breached."""

    counts: Counter[str]
    findings: tuple[Finding, ...]


def judge(evidence: Evidence) -> Verdict:
    """Judge every recording and the bucket as a whole."""
    court = Court(evidence)
    findings: list[Finding] = []
    counts: Counter[str] = Counter()
    for truth in evidence.truths:
        found = list(court.recording(truth))
        findings += found
        counts["in breach" if found else _ENDS[truth.audio]] += 1
    findings += court.bucket()
    return Verdict(counts, tuple(findings))


_ENDS = {"sound": "archived once and deleted", "damaged": "in quarantine", "none": "documented absences"}


class Court:
    """The evidence, sorted by recording."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._known = {truth.recording_sid for truth in evidence.truths}
        self._versions: defaultdict[str, list[Version]] = defaultdict(list)
        for version in evidence.versions:
            self._versions[version.key].append(version)
        self._downloads: defaultdict[str, list[Download]] = defaultdict(list)
        for download in evidence.downloads:
            self._downloads[download.recording_sid].append(download)
        self._by_key: defaultdict[str, list[Asked]] = defaultdict(list)
        self._deletes: defaultdict[str | None, list[Asked]] = defaultdict(list)
        self._refusals = Counter(
            each.recording_sid for each in evidence.asked if (each.what, each.status) == ("media", 400)
        )
        for asked in sorted(evidence.asked, key=lambda each: each.order):
            if asked.side == "s3":
                self._by_key[asked.key].append(asked)
            elif asked.method == "DELETE":
                self._deletes[asked.recording_sid].append(asked)

    # One recording

    def recording(self, truth: Truth) -> Iterator[Finding]:
        """Yield what is wrong with one recording, at rest and at the moment of each DELETE."""
        match truth.audio:
            case "sound":
                complaints = self._archived(truth)
            case "damaged":
                complaints = self._quarantined(truth)
            case _:
                complaints = self._absent(truth)
        for rule, detail in complaints:
            yield Finding(rule, truth.recording_sid, detail)
        for number, delete in enumerate(self._deletes[truth.recording_sid], 1):
            for rule, detail in self._allowed(truth, delete, number):
                yield Finding(rule, truth.recording_sid, f"{detail} (DELETE {delete.order})")

    def _archived(self, truth: Truth) -> Iterator[tuple[str, str]]:
        media = self._media(truth)
        if not media:
            yield "lost" if truth.deleted else "missing", "no object"
            return
        if len(media) > 1:
            yield "duplicate", f"{len(media)} versions of the media"
        served = {(each.bytes, each.sha256) for each in self._downloads[truth.recording_sid]}
        for each in media:
            if (each.bytes, each.sha256) not in served:
                yield "foreign_bytes", "S3 holds bytes that were never served"
            if each.sha256 != truth.sha256:
                yield "altered", "S3 holds other bytes than the source serves without faults"
        yield from self._receipt(truth, media[0])
        for key in _index(truth):
            if not self._at(key):
                yield "no_index", f"the index does not name it: there is no {key}"
        if not truth.deleted:
            yield "not_deleted", "the source is still there"
        for collection, extension in (("deletions", "json"), ("deletions", "requested.json")):
            if not self._document(truth, collection, extension):
                yield "no_deletion_proof", f"no {collection}/….{extension}"
        for collection in ("absences", "quarantine"):
            if self._latest(_key(truth, collection)):
                yield "contradiction", f"archived, and there is {collection}/….json"

    def _receipt(self, truth: Truth, media: Version) -> Iterator[tuple[str, str]]:
        receipt = self._latest(_key(truth, "receipts"))
        if receipt is None or receipt.document is None:
            yield "no_receipt", "no receipt that can be read"
            return
        for name in statements.of_receipt(receipt.document, truth, media, self._refusals[truth.recording_sid]):
            yield "receipt_differs", f"the receipt's {name} is not what it was at Twilio, or is in S3"
        answers = [each.done for each in self._deletes[truth.recording_sid]]
        if deletion := self._document(truth, "deletions"):
            for name in statements.of_deletion(deletion, truth, receipt, answers):
                yield "proof_differs", f"the {name} in the proof of the deletion is not what it was"
        if request := self._document(truth, "deletions", "requested.json"):
            for name in statements.of_request(request, truth, receipt):
                yield "proof_differs", f"the {name} in the request of the deletion is not what it was"

    def _quarantined(self, truth: Truth) -> Iterator[tuple[str, str]]:
        if truth.deleted or self._deletes[truth.recording_sid]:
            yield "lost", "a DELETE was sent for what was never served whole"
        if self._media(truth) or self._document(truth, "receipts"):
            yield "partial_visible", "damaged media became visible, or got a receipt"
        if not self._document(truth, "quarantine"):
            yield "nowhere", "neither archived nor in quarantine"

    def _absent(self, truth: Truth) -> Iterator[tuple[str, str]]:
        if self._media(truth) or self._latest(_key(truth, "receipts")):
            yield "contradiction", "there is no audio at the source, and there is in S3"
        absence = self._document(truth, "absences")
        if absence is None:
            yield "nowhere", "its absence is not documented"
            return
        for name in statements.of_absence(absence, truth):
            yield "absence_differs", f"the {name} of the absence is not Twilio's"

    # One DELETE

    def _allowed(self, truth: Truth, delete: Asked, number: int) -> Iterator[tuple[str, str]]:
        """Yield what was not yet so, or not looked at, when the how manieth DELETE of a recording came in."""
        media_keys = {version.key for version in self._media(truth)} or {_key(truth, "recordings", "wav")}
        receipt_key = _key(truth, "receipts")
        visible = [self._written(media_keys, delete.order), self._written({receipt_key}, delete.order)]
        for name, written in zip(("media", "receipt"), visible, strict=True):
            if written is None:
                yield "early_delete", f"S3 had no {name} yet"
        requested = {_key(truth, "deletions", "requested.json")}
        if not self._written(requested, delete.order):
            yield "unannounced_delete", "the checks that allowed it were not written down before"
        # Fresh looks: after the DELETE before this one, and after what they look at was there. Two workers at once, as
        # after a wipe of Redis, may both have looked before either DELETE: then there are as many looks as DELETEs, and
        # each worker has tried to write its own down.
        written = max(each or 0 for each in visible)
        since = max(
            [written] + [each.order for each in self._deletes[truth.recording_sid] if each.order < delete.order]
        )
        tries = [each for each in self._told(_PUTS, requested, 200, 412) if each.ended < delete.order]
        for name, what, keys, status in (
            ("media", ("HeadObject",), media_keys, 200),
            ("receipt", ("GetObject",), {receipt_key}, 200),
            ("quarantine", ("HeadObject", "GetObject"), {_key(truth, "quarantine")}, 404),
            ("holds", ("HeadObject", "GetObject"), {_hold(truth)}, 404),
            ("stop switch", ("HeadObject", "GetObject"), {PAUSED}, 404),
        ):
            looks = [
                each.order
                for each in self._told(what, keys, status)
                if written < each.order and each.ended < delete.order
            ]
            if not any(since < look for look in looks) and min(len(looks), len(tries)) < number:
                yield "unchecked_delete", f"nobody had looked at its {name}"
        # Only a deletion asks with HEAD for the quarantine, then for the stop switch, and writes down what it found.
        # What another worker sees after that, while S3 is slow to answer, the first one can't know.
        last_try = max((each.order for each in tries), default=delete.order)
        last_look = max(
            (
                each.order
                for each in self._by_key[_key(truth, "quarantine")]
                if each.what == "HeadObject" and each.ended < last_try
            ),
            default=0,
        )
        if any(on < last_look and delete.order < off for on, off in self._pauses):
            yield "delete_while_paused", "deletions were paused"

    def _told(self, what: tuple[str, ...], keys: set[str], *statuses: int) -> Iterator[Asked]:
        """Yield the requests for some keys to which S3's own answer was one of some, and arrived."""
        for key in keys:
            yield from (
                each
                for each in self._by_key[key]
                if each.what in what and each.status == each.done and each.done in statuses
            )

    def _written(self, keys: set[str], before: int) -> int | None:
        """Return when S3 had carried out the first write of one of the keys, if that was before a moment.

        Where a connection broke before S3 answered, that is just before it was first asked for and shown.
        """
        done = [each for key in keys for each in self._by_key[key] if each.carried_out is not None]
        written = [each.carried_out for each in done if each.what in _PUTS and each.done in (200, 201)]
        if any(each.what in _PUTS and each.done is None for key in keys for each in self._by_key[key]):
            shown = (each for each in done if each.what in _READS and each.done == 200 and each.carried_out < before)
            written += [each.order - 1 for each in shown]
        first = min(written, default=None)
        return first if first is not None and first < before else None

    @cached_property
    def _pauses(self) -> list[tuple[int, float]]:
        """From when until when deletions were paused, in the order of requests."""
        pauses: list[tuple[int, float]] = []
        for each in self._by_key[PAUSED]:
            is_on = bool(pauses) and pauses[-1][1] == float("inf")
            if each.what == "PutObject" and each.done == 200 and each.carried_out is not None and not is_on:
                pauses.append((each.carried_out, float("inf")))
            elif each.what == "DeleteObject" and each.done in (200, 204) and is_on:
                pauses[-1] = (pauses[-1][0], each.order)
        return pauses

    # The whole bucket

    def bucket(self) -> Iterator[Finding]:
        """Yield what is wrong with the bucket, whatever recordings there are."""
        for key in self._evidence.uploads:
            yield Finding("stray_upload", _sid_in(key), f"an upload of {key} is open")
        for key, versions in self._versions.items():
            if key.startswith(WRITTEN_ONCE) and len(versions) > 1:
                yield Finding("overwritten", _sid_in(key), f"{len(versions)} versions of {key}")
            if not self._belongs(key):
                yield Finding("foreign_object", _sid_in(key), f"{key} belongs to no recording")
        removed = {each.key for each in self._evidence.asked if each.what == "DeleteObject" and each.done in (200, 204)}
        for key in sorted(removed.union(self._evidence.markers)):  # to delete one version leaves no marker
            if key.startswith(WRITTEN_ONCE):
                yield Finding("removed", _sid_in(key), f"{key} was deleted")
        if self._latest(PAUSED):
            yield Finding("deletions_paused", None, f"{PAUSED} is still there")
        for sid in self._deletes.keys() - self._known:
            yield Finding("foreign_delete", sid, "a DELETE of something unknown")

    def _belongs(self, key: str) -> bool:
        sid = _sid_in(key)
        if sid is None:
            return bool(_OF_NOBODY.fullmatch(key))
        if sid not in self._known:
            return False
        truth = self._truths[sid]
        of_its_day = {_key(truth, collection, end) for collection, ends in _BY_DAY.items() for end in ends}
        return key in of_its_day or key in _index(truth)

    # Looking things up

    @cached_property
    def _truths(self) -> dict[str, Truth]:
        return {truth.recording_sid: truth for truth in self._evidence.truths}

    def _media(self, truth: Truth) -> list[Version]:
        return [
            version for extension in _BY_DAY["recordings"] for version in self._at(_key(truth, "recordings", extension))
        ]

    def _document(self, truth: Truth, collection: str, extension: str = "json") -> dict[str, Any] | None:
        latest = self._latest(_key(truth, collection, extension))
        return latest.document if latest else None

    def _at(self, key: str) -> list[Version]:
        return self._versions.get(key, [])

    def _latest(self, key: str) -> Version | None:
        return next((version for version in self._at(key) if version.latest), None)


def _key(truth: Truth, collection: str, extension: str = "json") -> str:
    return f"{collection}/{truth.folder}{truth.recording_sid}.{extension}"


def _hold(truth: Truth) -> str:
    return f"control/holds/account={truth.account_sid}/{truth.recording_sid}.json"


def _index(truth: Truth) -> list[str]:
    """Return the keys by which a recording is found."""
    account, sid, date = f"index/account={truth.account_sid}", truth.recording_sid, _date(truth)
    parents = [(kind, truth.resource[f"{kind}_sid"]) for kind in ("call", "conference")]
    return [f"{account}/recording={sid}/{date}"] + [
        f"{account}/{kind}={parent}/{sid}/{date}" for kind, parent in parents if parent
    ]


def _date(truth: Truth) -> str:
    return "-".join(re.findall(r"(?:year|month|day)=(\d+)", truth.folder))


def _sid_in(key: str) -> str | None:
    found = _SID.search(key)
    return found[0] if found else None
