"""Every way in which Twilio may misbehave over one recording: it ends archived, in quarantine, or still waiting.

Never as another object, and never deleted early. All recordings suffer at once, so that the waits overlap.
"""

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import (
    AnswerLost,
    Cut,
    Deliver,
    ErrorPage,
    ErrorStatus,
    Fault,
    Gzip,
    Headers,
    Injection,
    Match,
    NotReady,
    OtherAudio,
    PlaceholderSizes,
    Redirect,
    SimRecording,
    Simulator,
    Stall,
    Trickle,
    throttled,
)
from tests.integration.bucket import Bucket
from tests.integration.conftest import MAIN

ARCHIVED = "archived"
WAITING = "waiting"  # neither archived nor given up: a person must mend something outside, or nothing is wrong


@dataclass(frozen=True)
class Case:
    """One misfortune: what is injected, and how it must end."""

    name: str
    fault: Fault | None = None
    ends: str = ARCHIVED
    endpoint: str = "media"
    times: int | None = 1
    channels: Any = ...
    call: dict[str, Any] = field(default_factory=dict)


def cuts() -> Iterator[Case]:
    """Yield truncation at 0, 1, half and the last byte, announced or not, in silence or with a reset."""
    for name, at in (("0", 0), ("1", 1), ("half", 0.5), ("last byte", -1)):
        yield Case(f"cut at {name}, length announced", Cut(at))
        yield Case(f"cut at {name}, nothing announced", Cut(at, framing="close"))
        yield Case(f"cut at {name}, chunked", Cut(at, framing="chunked"))
        yield Case(f"reset at {name}", Cut(at, reset=True))
    yield Case("always cut in silence", Cut(0.5, framing="close"), "media_cut", times=None)
    yield Case(
        "cut in silence, nothing says the length",
        Cut(0.97, framing="close"),
        call={"placeholder_sizes": True, "seconds": 20.0},
    )
    yield Case("ciphertext cut in silence", Cut(-200, framing="close"), call={"encrypted": True, "seconds": 20.0})


CASES = [
    Case("404 three times", NotReady(), times=3),
    Case("429 without Retry-After", throttled(), times=2),
    Case("429 with Retry-After", throttled(retry_after=1), times=2),
    Case("429 for the resource", throttled(retry_after=1), endpoint="resource", times=2),
    Case("500", ErrorStatus(500), times=2),
    Case("502 in HTML", ErrorStatus(502, shape="xml")),
    Case("503 with Retry-After", ErrorStatus(503, retry_after=1)),
    Case("500 for the resource", ErrorStatus(500), endpoint="resource"),
    Case("500 for the DELETE", ErrorStatus(500), endpoint="delete"),
    Case("answer to the DELETE lost", AnswerLost(), endpoint="delete"),
    Case("answer to the resource lost", AnswerLost(), endpoint="resource"),
    Case("401 for a while", ErrorStatus(401, 20003), times=2),
    Case("403 for ever", ErrorStatus(403, 20403), WAITING, times=None),
    Case("silence before the headers", Stall()),
    Case("silence in the body", Stall(at=0.5)),
    Case("bytes trickle", Trickle(step_bytes=60_000, pause_s=0.05)),
    *cuts(),
    Case("no length announced", Deliver("close")),
    Case("chunked", Deliver("chunked")),
    Case("nothing says the length, and it is whole", call={"placeholder_sizes": True, "framing": "close"}),
    Case("ciphertext without a length", call={"encrypted": True, "framing": "close"}),
    Case("placeholder sizes", PlaceholderSizes(), times=None),
    *(Case(f"{page} page once", ErrorPage(page)) for page in ("xml", "json", "html", "empty")),
    *(
        Case(f"{page} page as audio", ErrorPage(page, content_type="audio/x-wav"), "not_audio", times=None)
        for page in ("xml", "json", "html")
    ),
    Case("an empty body as audio", ErrorPage("empty", content_type="audio/x-wav"), "media_cut", times=None),
    Case("HTML for ever", ErrorPage("html"), "not_audio", times=None),
    Case("another content type, sound audio", Headers({"Content-Type": "application/octet-stream"}), times=None),
    Case("no content type", Headers({"Content-Type": None}), times=None),
    Case("compressed once", Gzip()),
    Case("compressed for ever", Gzip(), "media_encoded", times=None),
    Case("wrong channels", OtherAudio(channels=1), channels=2),
    Case("wrong channels for ever", OtherAudio(channels=1), "channels_differ", times=None),
    Case("too short audio", OtherAudio(seconds=4.0)),
    Case("too short audio for ever", OtherAudio(seconds=4.0), "duration_differs", times=None),
    Case("redirect on the same host", Redirect()),
    Case("redirect to another host", Redirect("https://media.example.net/x.wav")),
    Case("redirect to another host for ever", Redirect("https://media.example.net/x.wav"), WAITING, times=None),
    Case("redirect to http elsewhere", Redirect("http://localhost:1/x.wav")),
    Case("redirect loop", Redirect("{url}{path}?{query}"), times=6),
    Case("400 on two channels", ErrorStatus(400, 16113), channels=2, times=None),
    Case("400 on both rungs", ErrorStatus(400, 16113), channels=1, times=None, call={"kind": "record_verb"}),
    Case("400 on every rung", ErrorStatus(400, 16113), "no_channel_layout", times=None),
    Case("stored externally", ends="stored_externally", call={"external": True}),
    Case("deleted by somebody else", ends="lost"),
    Case("500 for the transcriptions", ErrorStatus(500), endpoint="transcriptions"),
    Case("404 for the transcriptions", ErrorStatus(404), endpoint="transcriptions", times=None),
    Case("404 for the add-on results", ErrorStatus(404), endpoint="addons", times=None),
]


@dataclass
class Ordeal:
    """The running stack and the recordings that suffer in it."""

    stack: Stack
    archived: Bucket
    recordings: dict[str, SimRecording]
    injections: dict[str, Injection]

    def deletes(self, recording: SimRecording) -> list[int | None]:
        """Return the answers to every DELETE of the recording."""
        events = self.stack.simulator.timeline
        return [each.status for each in events if each.method == "DELETE" and each.recording_sid == recording.sid]


@pytest.fixture(scope="module")
def ordeal(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Ordeal]:
    """Let every recording meet its fault, announced by a callback and found again by frequent sweeps."""
    settings = {"SWEEP_INTERVAL": "3s", "SWEEP_GRACE": "1s", "QUARANTINE_AFTER": "3", "CELERY_CONCURRENCY": "32"}
    with (
        Simulator(accounts=[MAIN]) as simulator,
        Stack(
            ("web", "worker", "beat"),
            settings=settings,
            redis_server=redis_server,
            database=next(databases),
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        injections: dict[str, Injection] = {}
        recordings = {case.name: suffer(stack, case, injections) for case in CASES}
        yield Ordeal(stack, Bucket(stack.s3.client(), stack.bucket), recordings, injections)


def suffer(stack: Stack, case: Case, injections: dict[str, Injection]) -> SimRecording:
    """Inject a case's fault and let its call happen."""
    sid = f"RE{secrets.token_hex(16)}"
    if case.fault is not None:
        match = Match(endpoint=case.endpoint, requested_channels=case.channels)
        injections[case.name] = stack.simulator.inject(case.fault, recording_sid=sid, match=match, times=case.times)
    options: dict[str, Any] = {"kind": "call", "seconds": 7.0, **case.call}
    recording = stack.simulator.record(MAIN.sid, sid=sid, **options)
    if case.ends == "lost":
        stack.simulator.delete(recording)
    answer = stack.simulator.send_callback(recording, stack.callback_url, status="completed")
    assert answer.status == 204
    return recording


def named(ends: Sequence[str] | None) -> list[Any]:
    """Return the cases that end in one of these ways (None: in quarantine), as parameters."""
    known = (ARCHIVED, WAITING, "lost", "stored_externally")
    chosen = [case for case in CASES if (case.ends in ends if ends else case.ends not in known)]
    return [pytest.param(case, id=case.name) for case in chosen]


@pytest.mark.parametrize("case", named([ARCHIVED]))
def test_once_the_fault_is_gone_the_served_bytes_are_archived(ordeal: Ordeal, case: Case) -> None:
    """S3 holds exactly what Twilio serves without the fault, the receipt says so, and the source is gone."""
    recording = ordeal.recordings[case.name]
    deletion = ordeal.archived.wait_for("deletions", recording, timeout_s=100)
    assert case.fault is None or ordeal.injections[case.name].hits >= 1
    receipt = ordeal.archived.document("receipts", recording)
    media = ordeal.archived.media(recording)
    assert receipt is not None
    assert media is not None
    channels = receipt["media"]["requested_channels"]
    expected = ordeal.stack.simulator.media_bytes(recording.sid, channels)
    if isinstance(case.fault, PlaceholderSizes):
        expected = expected[:4] + media[4:8] + expected[8:40] + media[40:44] + expected[44:]
    assert media == expected
    assert receipt["media"]["sha256"] == hashlib.sha256(media).hexdigest()
    assert deletion["confirmation"]["status"] == "deleted"
    assert deletion["answer"]["by_archiver"] is True
    assert ordeal.archived.document("quarantine", recording) is None
    versions = ordeal.archived.versions(recording)
    assert versions.count(receipt["media"]["key"]) == 1


@pytest.mark.parametrize("case", named(None))
def test_content_that_stays_wrong_ends_in_quarantine(ordeal: Ordeal, case: Case) -> None:
    """Nothing becomes visible, nothing is deleted, and the quarantine names the reason."""
    recording = ordeal.recordings[case.name]

    def quarantined() -> dict[str, Any] | None:
        document = ordeal.archived.document("quarantine", recording)
        return document if document and document["attempts"] >= 3 else None

    document = wait_until(quarantined, timeout_s=100, what="quarantine")
    assert document is not None
    assert {failure["reason"] for failure in document["failures"]} == {case.ends}
    assert ordeal.archived.media(recording) is None
    assert ordeal.archived.document("receipts", recording) is None
    assert ordeal.deletes(recording) == []


@pytest.mark.parametrize("case", named([WAITING]))
def test_a_fault_of_configuration_counts_nothing(ordeal: Ordeal, case: Case) -> None:
    """What a person must mend outside is tried again and again; nothing is written but the index."""
    recording = ordeal.recordings[case.name]

    def tries() -> int:
        events = ordeal.stack.simulator.timeline
        return sum(each.recording_sid == recording.sid and each.endpoint == "media" for each in events)

    wait_until(lambda: tries() >= 5, timeout_s=100, what="five tries")
    assert {key.partition("/")[0] for key in ordeal.archived.keys(recording)} == {"index"}
    assert ordeal.deletes(recording) == []


@pytest.mark.parametrize("case", named(["stored_externally"]))
def test_externally_stored_media_is_an_absence(ordeal: Ordeal, case: Case) -> None:
    """A recording whose media is in the account's own storage is documented, and its source is left alone."""
    recording = ordeal.recordings[case.name]
    assert ordeal.archived.wait_for("absences", recording)["reason"] == "stored_externally"
    assert ordeal.deletes(recording) == []


@pytest.mark.parametrize("case", named(["lost"]))
def test_what_somebody_deleted_first_leaves_no_document(ordeal: Ordeal, case: Case) -> None:
    """A recording that was deleted before it was archived is neither invented nor deleted again."""
    recording = ordeal.recordings[case.name]

    def looked() -> bool:
        events = ordeal.stack.simulator.timeline
        return any(each.recording_sid == recording.sid and each.endpoint == "resource" for each in events)

    wait_until(looked, timeout_s=60, what="a look at the resource")
    assert ordeal.archived.keys(recording) == []
    assert ordeal.deletes(recording) == []
