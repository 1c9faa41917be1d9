"""The judge finds every breach that is planted in the evidence of a faultless run, and nothing in the faultless one."""

import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.local.servers import ROOT
from tests.chaos.evidence import Asked, Download, Evidence, Truth, Version
from tests.chaos.judge import PAUSED, judge

ACCOUNT, SID = "AC" + "a1" * 16, "RE" + "0c" * 16
FOLDER = f"account={ACCOUNT}/year=2026/month=11/day=22/"
MEDIA, RECEIPT = f"recordings/{FOLDER}{SID}.wav", f"receipts/{FOLDER}{SID}.json"
QUARANTINE, ABSENCE = f"quarantine/{FOLDER}{SID}.json", f"absences/{FOLDER}{SID}.json"
REQUESTED, DELETION = f"deletions/{FOLDER}{SID}.requested.json", f"deletions/{FOLDER}{SID}.json"
CALL, HOLD = "CA" + "1d" * 16, f"control/holds/account={ACCOUNT}/{SID}.json"
INDEX = f"index/account={ACCOUNT}/recording={SID}/2026-11-22"
CALL_INDEX = f"index/account={ACCOUNT}/call={CALL}/{SID}/2026-11-22"
SOUND, OTHER = "5" * 64, "0" * 64
CHECKSUM = b64encode(bytes.fromhex(SOUND)).decode()
RESOURCE = {
    "sid": SID,
    "account_sid": ACCOUNT,
    "call_sid": CALL,
    "conference_sid": None,
    "channels": 2,
    "encryption_details": None,
    "error_code": None,
    "status": "deleted",
    "date_updated": "later",
}


def truth(**changes: Any) -> Truth:
    return replace(Truth(SID, ACCOUNT, FOLDER, "sound", SOUND, deleted=True, resource=RESOURCE), **changes)


def without_audio(**changes: Any) -> Truth:
    return truth(audio="none", deleted=False, resource=RESOURCE | {"status": "absent", "error_code": 16101}, **changes)


def life() -> list[Asked]:
    """Return what both sides are asked in the life of a recording, ten numbers apart."""
    asked = (
        ("twilio", "GET", "media", SID, 200),
        ("s3", "PUT", "PutObject", MEDIA, 200),
        ("s3", "HEAD", "HeadObject", MEDIA, 200),
        ("s3", "PUT", "PutObject", RECEIPT, 200),
        ("s3", "GET", "GetObject", RECEIPT, 200),
        ("s3", "HEAD", "HeadObject", MEDIA, 200),
        ("s3", "GET", "GetObject", HOLD, 404),
        ("s3", "HEAD", "HeadObject", QUARANTINE, 404),
        ("s3", "HEAD", "HeadObject", PAUSED, 404),
        ("s3", "PUT", "PutObject", REQUESTED, 200),
        ("twilio", "DELETE", "delete", SID, 204),
        ("s3", "PUT", "PutObject", DELETION, 200),
    )
    return [
        Asked(
            side="twilio" if side == "twilio" else "s3",
            order=10 * number,
            carried_out=10 * number + 3,
            ended=10 * number + 5,
            time="2026-11-22T02:00:00Z",
            method=method,
            what=what,
            key=where,
            recording_sid=SID if side == "twilio" else None,
            status=status,
            done=status,
        )
        for number, (side, method, what, where, status) in enumerate(asked, 1)
    ]


def archive() -> list[Version]:
    """Return what the bucket holds in the end."""
    sids = {"recording_sid": SID, "account_sid": ACCOUNT}
    storage = {
        "sse": "AES256",
        "kms_key_id": None,
        "storage_class": "STANDARD",
        "object_lock_mode": "COMPLIANCE",
        "retain_until": "2033-11-22T02:00:00.000Z",
    }
    receipt = sids | {
        "schema": "recording-receipt/1",
        "call_sid": CALL,
        "conference_sid": None,
        "encryption": None,
        "source": RESOURCE | {"status": "completed", "date_updated": "earlier"},
        "media": {
            "bucket": "archive",
            "key": MEDIA,
            "version_id": "m1",
            "bytes": 100,
            "sha256": SOUND,
            "format": "wav",
            "channels": 2,
            "requested_channels": 2,
        },
        "storage": storage,
        "verification": {"method": "checksum", "checksum": CHECKSUM},
    }
    about = sids | {"receipt": {"key": RECEIPT, "version_id": "r1"}}
    checks = {"legal_hold": False, "quarantined": False, "deletions_paused": False, "checksum": CHECKSUM}
    request = about | {"checks": checks | {"media": receipt["media"], "storage": storage}}
    proof = about | {
        "schema": "recording-deletion/1",
        "answer": {"status": 204},
        "confirmation": {"sid": SID, "status": "deleted"},
    }
    return [
        Version(MEDIA, "m1", True, 100, SOUND, kept={"bucket": "archive", "checksum": CHECKSUM, **storage}),
        Version(RECEIPT, "r1", True, 10, OTHER, receipt),
        Version(INDEX, "i1", True, 0),
        Version(CALL_INDEX, "i2", True, 0),
        Version(REQUESTED, "d1", True, 10, OTHER, request),
        Version(DELETION, "d2", True, 10, OTHER, proof),
    ]


def absence(**changes: Any) -> Version:
    said = {"recording_sid": SID, "account_sid": ACCOUNT, "reason": "absent", "error_code": 16101}
    return Version(ABSENCE, "a", True, 9, OTHER, said | changes)


def faultless() -> Evidence:
    return Evidence([truth()], [Download(10, SID, 100, SOUND)], life(), archive())


def rules(evidence: Evidence) -> set[str]:
    return {finding.rule for finding in judge(evidence).findings}


def request(**changes: Any) -> Asked:
    return replace(life()[1], **changes)


def without(evidence: Evidence, key: str) -> None:
    evidence.versions = [version for version in evidence.versions if version.key != key]


def unseen(evidence: Evidence, key: str, *, what: str | None = None) -> None:
    """Take out the requests for a key."""
    evidence.asked = [each for each in evidence.asked if each.key != key or what not in (None, each.what)]


def at(evidence: Evidence, what: str, key: str, **changes: Any) -> None:
    """Change the last request of a kind for a key."""
    place = max(place for place, each in enumerate(evidence.asked) if (each.what, each.key) == (what, key))
    evidence.asked[place] = replace(evidence.asked[place], **changes)


def version(key: str, **changes: Any) -> Callable[[Evidence], None]:
    """Return what changes a version."""

    def change(evidence: Evidence) -> None:
        evidence.versions = [replace(each, **changes) if each.key == key else each for each in evidence.versions]

    return change


def lie(key: str, name: str, value: Any) -> Callable[[Evidence], None]:
    """Return what lets a document say something else; `name` leads there by dots."""

    def change(evidence: Evidence) -> None:
        (told,) = (each for each in evidence.versions if each.key == key)
        *within, last = name.split(".")
        said = document = deepcopy(told.document)
        for each in within:
            said = said[each] if said else None
        assert said is not None
        assert last in said
        said[last] = value
        version(key, document=document)(evidence)

    return change


def second(key: str) -> Callable[[Evidence], None]:
    """Return what adds another version under a key."""
    return lambda evidence: evidence.versions.append(Version(key, "x2", False, 100, SOUND))


def pause_before_the_last_look(evidence: Evidence) -> None:
    """Pause deletions at 61, before the last look at the quarantine (80), and resume after all."""
    evidence.asked += [
        request(order=61, carried_out=62, ended=63, key=PAUSED),
        request(order=300, carried_out=303, ended=305, key=PAUSED, what="DeleteObject", done=204),
    ]


def twins(evidence: Evidence, *left_out: str) -> None:
    """Let two workers do the same deletion at once, each a step behind the other; the second leaves out some looks."""
    lag = [
        replace(each, order=each.order + 1, ended=each.ended + 1) for each in life()[4:11] if each.key not in left_out
    ]
    for each in lag:
        at_all = {"status": 412, "done": 412} if each.key == REQUESTED else {}
        evidence.asked.append(replace(each, **at_all))


def removal(key: str) -> Asked:
    """Return how one version is deleted, which leaves no marker."""
    return request(
        order=45, carried_out=46, ended=47, key=key, method="DELETE", what="DeleteObject", status=204, done=204
    )


def version_of(key: str) -> Callable[[Evidence], None]:
    """Return what adds an object."""
    return lambda evidence: evidence.versions.append(Version(key, "v", True, 1, OTHER))


def forgotten(evidence: Evidence) -> None:
    evidence.versions.clear()
    evidence.truths[0] = truth(deleted=False)


def media_of_another_day(evidence: Evidence) -> None:
    evidence.versions.append(Version(MEDIA.replace("day=22", "day=23"), "m3", True, 100, SOUND))


BREACHES: dict[str, tuple[str, Callable[[Evidence], object]]] = {
    "no object": ("lost", lambda e: without(e, MEDIA)),
    "no object, still at the source": ("missing", forgotten),
    "another format beside it": ("duplicate", second(MEDIA.replace(".wav", ".mp3"))),
    "overwritten": ("overwritten", second(MEDIA)),
    "receipt overwritten": ("overwritten", second(RECEIPT)),
    "receipt removed": ("removed", lambda e: e.markers.append(RECEIPT)),
    "receipt removed by its version": ("removed", lambda e: e.asked.append(removal(RECEIPT))),
    "removed and written again": ("removed", lambda e: e.asked.append(removal(MEDIA))),
    "other bytes": ("altered", version(MEDIA, sha256=OTHER)),
    "bytes of nowhere": ("foreign_bytes", lambda e: e.downloads.clear()),
    "a shorter object": ("foreign_bytes", version(MEDIA, bytes=99)),
    "no receipt": ("no_receipt", lambda e: without(e, RECEIPT)),
    "a receipt of another version": ("receipt_differs", version(MEDIA, version_id="m2")),
    "a proof of another receipt": ("proof_differs", version(RECEIPT, version_id="r2")),
    "a receipt that is none": ("no_receipt", version(RECEIPT, document=None)),
    "a quarantine that nobody can read": (
        "contradiction",
        lambda e: e.versions.append(Version(QUARANTINE, "q", True, 9, OTHER, None)),
    ),
    "no index": ("no_index", lambda e: without(e, INDEX)),
    "no index by call": ("no_index", lambda e: without(e, CALL_INDEX)),
    "an index of another call": (
        "foreign_object",
        lambda e: e.versions.append(Version(CALL_INDEX.replace(CALL, "CA" + "0" * 32), "i3", True, 0)),
    ),
    "kept otherwise": ("receipt_differs", version(MEDIA, kept={"checksum": CHECKSUM})),
    "still at the source": ("not_deleted", lambda e: e.truths.__setitem__(0, truth(deleted=False))),
    "no proof of the deletion": ("no_deletion_proof", lambda e: without(e, DELETION)),
    "no request of the deletion": ("no_deletion_proof", lambda e: without(e, REQUESTED)),
    "an absence, too": ("contradiction", lambda e: e.versions.append(Version(ABSENCE, "a", True, 9, OTHER, {"x": 1}))),
    "still in quarantine": (
        "contradiction",
        lambda e: e.versions.append(Version(QUARANTINE, "q", True, 9, OTHER, {"x": 1})),
    ),
    "deleted before the object": ("early_delete", lambda e: at(e, "PutObject", MEDIA, carried_out=111)),
    "deleted before the receipt": ("early_delete", lambda e: at(e, "PutObject", RECEIPT, carried_out=111)),
    "the receipt was refused": ("early_delete", lambda e: at(e, "PutObject", RECEIPT, done=500)),
    "deleted unannounced": ("unannounced_delete", lambda e: at(e, "PutObject", REQUESTED, carried_out=111)),
    "media not looked at": ("unchecked_delete", lambda e: at(e, "HeadObject", MEDIA, order=33)),
    "media looked at too late": ("unchecked_delete", lambda e: at(e, "HeadObject", MEDIA, ended=111)),
    "receipt not looked at": ("unchecked_delete", lambda e: unseen(e, RECEIPT, what="GetObject")),
    "quarantine not looked at": ("unchecked_delete", lambda e: unseen(e, QUARANTINE)),
    "in quarantine": ("unchecked_delete", lambda e: at(e, "HeadObject", QUARANTINE, status=200, done=200)),
    "holds not looked at": ("unchecked_delete", lambda e: unseen(e, HOLD)),
    "asked to be held": ("unchecked_delete", lambda e: at(e, "GetObject", HOLD, status=200, done=200)),
    "stop switch not looked at": ("unchecked_delete", lambda e: unseen(e, PAUSED)),
    "a second DELETE without a look": (
        "unchecked_delete",
        lambda e: e.asked.append(replace(life()[10], order=200, ended=205)),
    ),
    "a second DELETE beside a first, without a look": ("unchecked_delete", lambda e: twins(e, QUARANTINE)),
    "a second DELETE beside a first, unannounced": ("unchecked_delete", lambda e: twins(e, REQUESTED)),
    "deleted while paused": ("delete_while_paused", pause_before_the_last_look),
    "stop switch left on": ("deletions_paused", lambda e: e.versions.append(Version(PAUSED, "p", True, 9, OTHER, {}))),
    "an upload left open": ("stray_upload", lambda e: e.uploads.append(MEDIA)),
    "something of nobody's": ("foreign_object", lambda e: e.versions.append(Version("tmp/x", "f", True, 1, OTHER))),
    "another name beside it": ("foreign_object", version_of(MEDIA + ".tmp")),
    "another number beside it": ("foreign_object", version_of(RECEIPT.replace(".json", ".2.json"))),
    "filed under another day": ("foreign_object", media_of_another_day),
    "a DELETE of something unknown": (
        "foreign_delete",
        lambda e: e.asked.append(replace(life()[10], recording_sid="RE" + "0d" * 16)),
    ),
    "documented as absent by nobody": ("nowhere", lambda e: e.truths.__setitem__(0, truth(audio="none"))),
    "damaged and visible": ("partial_visible", lambda e: e.truths.__setitem__(0, truth(audio="damaged"))),
    "damaged and deleted": ("lost", lambda e: e.truths.__setitem__(0, truth(audio="damaged"))),
    "damaged and nowhere": ("nowhere", lambda e: e.truths.__setitem__(0, truth(audio="damaged"))),
}


LIES: dict[str, tuple[str, str, Any]] = {
    **{
        f"a receipt, {name}": (RECEIPT, name, value)
        for name, value in (
            ("schema", "x"),
            ("recording_sid", "RE" + "0" * 32),
            ("call_sid", "CA" + "0" * 32),
            ("encryption", {"type": "rsa-aes"}),
            ("source", {}),
            ("source.channels", 1),
            ("media.bucket", "another"),
            ("media.sha256", OTHER),
            ("media.format", "mp3"),
            ("media.channels", 1),
            ("media.requested_channels", 1),
            ("verification.method", "readback"),
            ("verification.checksum", "AAAA"),
            ("storage.sse", "aws:kms"),
            ("storage.storage_class", "GLACIER"),
            ("storage.object_lock_mode", "GOVERNANCE"),
            ("storage.retain_until", None),
        )
    },
    **{
        f"a request, {name}": (REQUESTED, name, value)
        for name, value in (
            ("recording_sid", "RE" + "0" * 32),
            ("receipt.version_id", "r0"),
            ("checks.checksum", "AAAA"),
            ("checks.legal_hold", True),
            ("checks.media.sha256", OTHER),
            ("checks.storage.retain_until", None),
        )
    },
    **{
        f"a proof, {name}": (DELETION, name, value)
        for name, value in (
            ("schema", "x"),
            ("account_sid", "AC" + "0" * 32),
            ("receipt.key", MEDIA),
            ("answer.status", 404),
            ("confirmation", None),
            ("confirmation.status", "completed"),
        )
    },
}


@pytest.mark.parametrize("told", LIES.values(), ids=LIES.keys())
def test_a_lie_is_found(told: tuple[str, str, Any]) -> None:
    """A document says one thing that is not so, and nothing else is wrong."""
    key, name, value = told
    evidence = faultless()
    lie(key, name, value)(evidence)
    found = rules(evidence)
    assert ("receipt_differs" if key == RECEIPT else "proof_differs") in found
    assert found <= {"receipt_differs", "proof_differs"}  # a request repeats what the receipt says


@pytest.mark.parametrize(("refusals", "found"), [(1, {"receipt_differs"}), (2, set())])
def test_a_refused_layout_is_not_asked_for(refusals: int, found: set[str]) -> None:
    """A receipt may say that no number of channels was asked for, where Twilio has refused both."""
    evidence = faultless()
    attempts = [{"requested_channels": 2, "status": 400}, {"requested_channels": 1, "status": 400}]
    for each in evidence.versions:
        if each.document and "media" in each.document:
            each.document["media"] |= {"requested_channels": None, "attempts": attempts}
    for number in range(refusals):
        told = {"what": "media", "status": 400, "done": 400, "recording_sid": SID, "side": "twilio"}
        evidence.asked.append(request(order=11 + number, ended=12 + number, key=SID, method="GET", **told))
    assert rules(evidence) == found


@pytest.mark.parametrize(("name", "value"), [("reason", "stored_externally"), ("error_code", None)])
def test_a_wrong_absence_is_found(name: str, value: object) -> None:
    """A recording without audio is documented with Twilio's own reason."""
    right = Evidence([without_audio()], versions=[absence()])
    wrong = Evidence([without_audio()], versions=[absence(**{name: value})])
    assert rules(right) == set()
    assert rules(wrong) == {"absence_differs"}


def test_a_faultless_run() -> None:
    """Nothing is found in it, and it counts as archived."""
    verdict = judge(faultless())
    assert verdict.findings == ()
    assert verdict.counts == {"archived once and deleted": 1}


@pytest.mark.parametrize("rule_and_breach", BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_is_found(rule_and_breach: tuple[str, Callable[[Evidence], object]]) -> None:
    """One thing is wrong, and the rule that it breaks is named."""
    rule, breach = rule_and_breach
    evidence = faultless()
    breach(evidence)
    assert rule in rules(evidence)


def test_lost_answers_count_as_done() -> None:
    """What S3 has carried out is there, whatever its client was told, and however late."""
    evidence = faultless()
    at(evidence, "PutObject", RECEIPT, status=None, ended=500)
    assert rules(evidence) == set()


def test_what_s3_shows_was_written() -> None:
    """Where a connection broke before S3 answered, what it shows later is there, and what it never shows is not."""
    evidence = faultless()
    at(evidence, "PutObject", RECEIPT, status=None, done=None, carried_out=None)
    assert rules(evidence) == set()
    unseen(evidence, RECEIPT, what="GetObject")
    assert "early_delete" in rules(evidence)


def test_two_workers_at_once_are_no_breach() -> None:
    """Each has looked at everything before either DELETE, which is as good as one after the other."""
    evidence = faultless()
    twins(evidence)
    assert rules(evidence) == set()


def test_another_worker_may_see_the_pause() -> None:
    """A deletion that was written down before the pause is none of its, even if another worker looks in between."""
    evidence = faultless()
    evidence.asked += [
        request(order=106, carried_out=107, ended=107, key=PAUSED),
        replace(life()[7], order=108, ended=109),
        request(order=300, carried_out=303, ended=305, key=PAUSED, what="DeleteObject", done=204),
    ]
    assert rules(evidence) == set()


def test_quarantine_and_absence_may_be_right() -> None:
    """What was never served whole belongs into quarantine, and what has no audio is documented."""
    quarantined = Evidence(
        [truth(audio="damaged", deleted=False)], versions=[Version(QUARANTINE, "q", True, 9, OTHER, {"x": 1})]
    )
    absent = Evidence([without_audio()], versions=[absence()])
    assert rules(quarantined) == rules(absent) == set()


def test_evidence_is_kept(tmp_path: Path) -> None:
    """What was written to a directory is read from it as it was."""
    evidence = faultless()
    evidence.markers, evidence.uploads = [QUARANTINE], [MEDIA]
    evidence.write(tmp_path)
    assert Evidence.read(tmp_path) == evidence


def test_kept_evidence_is_judged_again(tmp_path: Path) -> None:
    """The command finds in what a run has kept what the run would have found, and says where there is nothing."""
    evidence = faultless()
    evidence.write(tmp_path)
    command = [sys.executable, str(ROOT / "tests" / "chaos" / "run"), "--judge", str(tmp_path)]
    faultless_again = subprocess.run(command, capture_output=True, text=True, check=False)
    without(evidence, RECEIPT)
    evidence.write(tmp_path)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    (tmp_path / "asked.jsonl").unlink()
    nothing = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (faultless_again.returncode, again.returncode, nothing.returncode) == (0, 1, 1)
    assert f"no_receipt: {SID}" in again.stdout
    assert "holds no evidence" in nothing.stderr


def test_nothing_of_the_product_is_used() -> None:
    """Whoever judges the product does not import it."""
    script = "import sys; import tests.chaos.judge; print({name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "'tests'" in run.stdout
    assert "'app'" not in run.stdout
    assert "'workers'" not in run.stdout
