"""Every fault of the simulator is what a client sees, meets what it was meant for, and ends."""

from __future__ import annotations

import gzip
import io
import threading
import time
import wave
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests

from deploy.local.processes import wait_until
from deploy.local.twilio import (
    Account,
    AnswerLost,
    ApiError,
    Cut,
    Deliver,
    ErrorPage,
    ErrorStatus,
    FlipBit,
    Gzip,
    Headers,
    Hook,
    Match,
    NotReady,
    OtherAudio,
    PlaceholderSizes,
    Redirect,
    Request,
    Response,
    SimRecording,
    Simulator,
    Stall,
    Trickle,
    throttled,
)
from tests.integration.simulator_tools import Rest, raw_get

BROKEN = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)


@pytest.fixture
def made(sim: Simulator, account: Account) -> SimRecording:
    return sim.record(account.sid, seconds=2)


@pytest.fixture
def wav(made: SimRecording) -> str:
    return f"Recordings/{made.sid}.wav"


def channels_and_seconds(media: bytes) -> tuple[int, float]:
    with wave.open(io.BytesIO(media)) as audio:
        return audio.getnchannels(), audio.getnframes() / 8000


def test_media_is_not_ready_three_times(sim: Simulator, rest: Rest, wav: str) -> None:
    """Three times 404, then the media."""
    sim.inject(NotReady(), times=3)
    assert [rest.get(wav).status_code for _ in range(5)] == [404, 404, 404, 200, 200]


def test_media_is_not_ready_until_a_time(account: Account) -> None:
    """404 until the simulator's clock says so."""
    now = datetime(2026, 11, 23, tzinfo=UTC)
    with Simulator(accounts=[account], clock=lambda: now) as sim, Rest(sim, account) as rest:
        wav = f"Recordings/{sim.record(account.sid).sid}.wav"
        sim.inject(NotReady(until=now + timedelta(minutes=1)), times=None)
        assert rest.get(wav).status_code == 404
        now += timedelta(minutes=1)
        assert rest.get(wav).status_code == 200


@pytest.mark.parametrize("retry_after", [None, "7", "Mon, 23 Nov 2026 02:00:00 GMT"])
def test_throttles(sim: Simulator, rest: Rest, made: SimRecording, retry_after: str | None) -> None:
    """429 with 20429, with and without Retry-After."""
    sim.inject(throttled(retry_after))
    answer = rest.get(f"Recordings/{made.sid}.json")
    assert (answer.status_code, answer.json()["code"]) == (429, 20429)
    assert answer.headers.get("Retry-After") == retry_after
    assert rest.get(f"Recordings/{made.sid}.json").status_code == 200


@pytest.mark.parametrize("status", [500, 502, 503])
@pytest.mark.parametrize("shape", ["json", "xml", "problem"])
def test_errors_come_in_three_shapes(sim: Simulator, rest: Rest, wav: str, status: int, shape: str) -> None:
    """Any status, in the shape that is chosen."""
    sim.inject(ErrorStatus(status, 20500, shape=shape))
    answer = rest.get(wav)
    content_type = {"json": "application/json", "xml": "application/xml", "problem": "application/problem+json"}
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, content_type[shape])
    assert "20500" in answer.text


def test_a_stall_before_the_headers_ends_when_released(sim: Simulator, rest: Rest, wav: str) -> None:
    """The client runs into its timeout; a later one gets its answer on release."""
    stall = sim.inject(Stall(), times=2)
    with pytest.raises(requests.ReadTimeout):
        rest.get(wav, timeout=0.1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(rest.get, wav)
        assert not answer.done()
        stall.release()
        assert answer.result().status_code == 200


def test_a_stall_in_the_body_comes_after_its_first_bytes(sim: Simulator, rest: Rest, wav: str) -> None:
    """Half of the body arrives, then nothing."""
    sim.inject(Stall(at=0.5))
    with rest.get(wav, stream=True, timeout=1) as answer:
        got = answer.raw.read(32022)
        assert len(got) == 32022
        with pytest.raises(Exception, match="timed out"):
            answer.raw.read(1)


def test_a_stall_may_end_by_itself(sim: Simulator, rest: Rest, wav: str) -> None:
    """After its seconds the answer goes on."""
    sim.inject(Stall(at=100, seconds=0.1))
    started = time.monotonic()
    assert len(rest.get(wav).content) == 64044
    assert time.monotonic() - started >= 0.1


def test_stopping_releases_what_stalls(account: Account) -> None:
    """No thread outlives the simulator, although one client hangs in a stall without end and another stays."""
    before = set(threading.enumerate())
    sim = Simulator(accounts=[account]).start()
    wav = f"Recordings/{sim.record(account.sid).sid}.wav"
    sim.inject(Stall(at=0.5))
    with Rest(sim, account) as idle, Rest(sim, account) as rest, rest.get(wav, stream=True) as answer:
        idle.get("Recordings.json")
        answer.raw.read(10)
        sim.stop()
        wait_until(lambda: before.issuperset(threading.enumerate()), timeout_s=20, what="the end of its threads")


def test_trickles(sim: Simulator, rest: Rest, wav: str) -> None:
    """Every step comes after its pause, and at the end all is there."""
    sim.inject(Trickle(step_bytes=16000, pause_s=0.02))
    started = time.monotonic()
    assert len(rest.get(wav).content) == 64044
    assert time.monotonic() - started >= 5 * 0.02


@pytest.mark.parametrize(("at", "left"), [(0, 0), (1, 1), (0.5, 32022), (-1, 64043)])
def test_a_cut_breaks_the_promise_of_content_length(
    sim: Simulator, rest: Rest, account: Account, wav: str, at: float, left: int
) -> None:
    """Content-Length says all, fewer bytes come, and nothing counts as served."""
    sim.inject(Cut(at), times=2)
    head, _, body = raw_get(sim, account, wav).partition(b"\r\n\r\n")
    assert b"Content-Length: 64044" in head
    assert len(body) == left
    with pytest.raises(BROKEN):
        rest.get(wav)
    assert sim.served == []
    assert [(event.complete, event.body_bytes) for event in sim.timeline] == [(False, left)] * 2


@pytest.mark.parametrize(("at", "left"), [(0, 0), (1, 1), (0.5, 32022), (-1, 64043)])
def test_a_cut_without_content_length_looks_like_the_end(
    sim: Simulator, rest: Rest, wav: str, at: float, left: int
) -> None:
    """A body that ends with the connection gives no sign of the cut."""
    sim.inject(Cut(at, framing="close"))
    answer = rest.get(wav)
    assert "Content-Length" not in answer.headers
    assert len(answer.content) == left
    assert sim.served == []


def test_a_cut_of_chunks_lacks_the_last_one(sim: Simulator, rest: Rest, wav: str) -> None:
    """The client notices that the end of the chunks is missing."""
    sim.inject(Cut(0.5, framing="chunked"))
    with pytest.raises(BROKEN):
        rest.get(wav)


def test_resets_the_connection(sim: Simulator, account: Account, wav: str) -> None:
    """The connection ends with a reset in the middle of the body."""
    sim.inject(Cut(0.5, reset=True))
    with pytest.raises(ConnectionResetError):
        raw_get(sim, account, wav)


@pytest.mark.parametrize("kind", ["xml", "json", "html", "empty"])
@pytest.mark.parametrize("content_type", [None, "audio/x-wav"])
def test_error_pages_with_status_200(sim: Simulator, rest: Rest, wav: str, kind: str, content_type: str | None) -> None:
    """A page that is no audio says so in its content type, or does not."""
    sim.inject(ErrorPage(kind, content_type))
    answer = rest.get(wav)
    assert answer.status_code == 200
    assert (answer.headers["Content-Type"] == "audio/x-wav") == (content_type is not None)
    assert not answer.content.startswith(b"RIFF")


def test_gzip_although_identity_was_asked(sim: Simulator, rest: Rest, made: SimRecording, wav: str) -> None:
    """The body is compressed and says so."""
    sim.inject(Gzip())
    with rest.get(wav, headers={"Accept-Encoding": "identity"}, stream=True) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.raw.read()) == sim.media_bytes(made.sid)


def test_other_audio_than_asked_for(sim: Simulator, rest: Rest, made: SimRecording, wav: str) -> None:
    """Wrong channels, a wrong duration, or other bytes of the same shape: each a sound WAV."""
    sim.inject(OtherAudio(channels=1))
    sim.inject(OtherAudio(seconds=5), skip=1)
    sim.inject(OtherAudio(), skip=2)
    answers = [rest.get(f"{wav}?RequestedChannels=2").content for _ in range(4)]
    assert [channels_and_seconds(answer) for answer in answers] == [(1, 2.0), (2, 5.0), (2, 2.0), (2, 2.0)]
    assert answers[2] != answers[3] == sim.media_bytes(made.sid, 2)


def test_other_bytes_on_the_second_try(sim: Simulator, rest: Rest, made: SimRecording, wav: str) -> None:
    """The first download is right, the second differs, and the record of what was served tells them apart."""
    sim.inject(OtherAudio(), skip=1)
    first, second = (rest.get(wav).content for _ in range(2))
    assert first == sim.media_bytes(made.sid) != second
    assert [served.faults for served in sim.served] == [(), ("OtherAudio",)]
    assert sim.served[0].sha256 != sim.served[1].sha256


@pytest.mark.parametrize(("at", "place"), [(0, 0), (-1, 64043), (0.5, 32022)])
def test_flips_one_bit(sim: Simulator, rest: Rest, made: SimRecording, wav: str, at: float, place: int) -> None:
    """One bit of one byte is changed, nothing else."""
    sim.inject(FlipBit(at))
    got, right = rest.get(wav).content, sim.media_bytes(made.sid)
    assert [i for i, (a, b) in enumerate(zip(got, right, strict=True)) if a != b] == [place]


def test_placeholder_sizes_and_framing(sim: Simulator, rest: Rest, wav: str) -> None:
    """A WAV as it is streamed: chunked, with sizes of 0xFFFFFFFF."""
    sim.inject(PlaceholderSizes())
    sim.inject(Deliver("chunked"))
    answer = rest.get(wav)
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert answer.content[4:8] == b"\xff" * 4
    assert len(answer.content) == 64044


def test_sets_and_removes_headers(sim: Simulator, rest: Rest, wav: str) -> None:
    """A header may be added, changed or left out."""
    sim.inject(Headers({"ETag": '"x"', "Content-Type": None}), match=Match(endpoint="media"))
    answer = rest.get(wav)
    assert answer.headers["ETag"] == '"x"'
    assert "Content-Type" not in answer.headers


def test_redirects_to_where_no_credentials_are_taken(sim: Simulator, rest: Rest, made: SimRecording, wav: str) -> None:
    """The address of the redirect serves the media without credentials and refuses them."""
    sim.inject(Redirect(), times=None)
    answer = rest.get(f"{wav}?RequestedChannels=1", allow_redirects=False)
    assert answer.status_code == 307
    location = answer.headers["Location"]
    assert requests.get(location, timeout=5).content == sim.media_bytes(made.sid, 1)
    assert rest.get(location).status_code == 400
    assert [event.authorized for event in sim.timeline if event.endpoint == "cdn"] == [False, True]


@pytest.mark.parametrize(
    ("to", "location"),
    [
        ("{path}?again=1", "/2010-04-01/Accounts/{account}/Recordings/{recording}.wav?again=1"),
        ("https://media.example.org{path}", "https://media.example.org/2010-04-01/Accounts/{account}/Recordings/"),
        ("http://api.twilio.com{path}", "http://api.twilio.com/2010-04-01/Accounts/{account}/Recordings/{recording}"),
    ],
)
def test_redirects_anywhere(
    sim: Simulator, rest: Rest, account: Account, made: SimRecording, wav: str, to: str, location: str
) -> None:
    """The same host, another host, or plain http."""
    sim.inject(Redirect(to, status=302))
    answer = rest.get(wav, allow_redirects=False)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(location.format(account=account.sid, recording=made.sid))


def test_redirects_in_a_loop(sim: Simulator, rest: Rest, wav: str) -> None:
    """A redirect to itself never ends."""
    sim.inject(Redirect("{path}"), times=None)
    with pytest.raises(requests.TooManyRedirects):
        rest.get(wav)


def test_a_lost_answer_leaves_its_deed_done(sim: Simulator, rest: Rest, made: SimRecording) -> None:
    """The recording is deleted, and the client never hears of it."""
    sim.inject(AnswerLost(), match=Match(method="DELETE"))
    with pytest.raises(requests.ConnectionError):
        rest.delete(f"Recordings/{made.sid}.json")
    assert made.status == "deleted"
    (event,) = sim.timeline
    assert (event.status, event.complete) == (None, False)
    assert rest.delete(f"Recordings/{made.sid}.json").status_code == 404


def test_hooks_are_called_around_a_request(sim: Simulator, rest: Rest, made: SimRecording) -> None:
    """Before it is carried out, after it, and when the answer has been sent."""
    seen: list[tuple[str, str]] = []
    sent = threading.Event()

    def note(point: str) -> None:
        seen.append((point, made.status))

    sim.inject(
        Hook(
            before=lambda request: note("before"),
            after=lambda request, response: note(f"after {response.status}"),
            sent=lambda request: sent.set(),
        ),
        match=Match(endpoint="delete"),
    )
    assert rest.delete(f"Recordings/{made.sid}.json").status_code == 204
    assert sent.wait(2)
    assert seen == [("before", "completed"), ("after 204", "deleted")]


def test_a_hook_may_act_in_the_middle_of_a_body(sim: Simulator, rest: Rest, made: SimRecording, wav: str) -> None:
    """Somebody else deletes the recording while it is downloaded; the download goes on."""
    sim.inject(Hook(during=lambda request: sim.delete(made), at=0.5), match=Match(endpoint="media"))
    assert len(rest.get(wav).content) == 64044
    assert made.status == "deleted"
    assert rest.get(wav).status_code == 404


def test_a_hook_may_answer(sim: Simulator, rest: Rest, wav: str) -> None:
    """What `before` returns or raises is the answer."""

    def refuse(request: Request) -> Response:
        raise ApiError(403, 20003)

    sim.inject(Hook(before=lambda request: Response.json({"own": 1})))
    sim.inject(Hook(before=refuse), skip=1)
    assert rest.get(wav).json() == {"own": 1}
    assert rest.get(wav).status_code == 403


def test_faults_meet_only_what_they_are_meant_for(sim: Simulator, rest: Rest, account: Account) -> None:
    """By recording, endpoint, method and channels asked; the count tells how often."""
    one, other = (sim.record(account.sid, seconds=1) for _ in range(2))
    of_one = sim.inject(NotReady(), recording_sid=one.sid, times=None)
    sim.inject(ErrorStatus(503), match=Match(endpoint="media", requested_channels=1), times=None)
    sim.inject(ErrorStatus(502), match=Match(endpoint="media", requested_channels=None), times=None)
    sim.inject(ErrorStatus(501), match=Match(endpoint="list"))
    assert rest.get(f"Recordings/{one.sid}.wav").status_code == 404
    assert rest.get(f"Recordings/{one.sid}.json").status_code == 200
    assert rest.get(f"Recordings/{other.sid}.wav?RequestedChannels=1").status_code == 503
    assert rest.get(f"Recordings/{other.sid}.wav?RequestedChannels=2").status_code == 200
    assert rest.get(f"Recordings/{other.sid}.wav").status_code == 502
    assert rest.get("Recordings.json").status_code == 501
    assert rest.get("Recordings.json").status_code == 200
    assert of_one.hits == 1


def test_a_fault_may_be_a_matter_of_chance(sim: Simulator, rest: Rest, wav: str) -> None:
    """What is asked about each request decides; a request that it lets pass does not count as a hit."""
    answers = iter([False, True, False])
    fault = sim.inject(ErrorStatus(), times=None, when=lambda: next(answers))
    assert [rest.get(wav).status_code for _ in range(3)] == [200, 500, 200]
    assert (fault.seen, fault.hits) == (3, 1)


def test_faults_combine(sim: Simulator, rest: Rest, wav: str) -> None:
    """Wrong channels and a missing length at once."""
    sim.inject(OtherAudio(channels=1))
    sim.inject(Deliver("close"))
    answer = rest.get(wav)
    assert channels_and_seconds(answer.content)[0] == 1
    assert "Content-Length" not in answer.headers


def test_faults_can_be_removed(sim: Simulator, rest: Rest, wav: str) -> None:
    """One by its handle, or all of them."""
    injection = sim.inject(NotReady(), times=None)
    assert rest.get(wav).status_code == 404
    injection.remove()
    assert rest.get(wav).status_code == 200
    sim.inject(NotReady(), times=None)
    sim.clear_faults()
    assert rest.get(wav).status_code == 200


@pytest.mark.parametrize("at", ["Transcriptions", "AddOnResults"])
def test_subresources_fail_on_their_own(sim: Simulator, rest: Rest, made: SimRecording, at: str) -> None:
    """An account in PCI mode has no transcriptions: their list alone answers an error."""
    endpoint = {"Transcriptions": "transcriptions", "AddOnResults": "addons"}[at]
    sim.inject(ErrorStatus(403, 20003), match=Match(endpoint=endpoint), times=None)
    assert rest.get(f"Recordings/{made.sid}/{at}.json").status_code == 403
    assert rest.get(f"Recordings/{made.sid}.json").status_code == 200


def test_the_timeline_orders_requests(sim: Simulator, rest: Rest, made: SimRecording, wav: str) -> None:
    """A DELETE that follows a download is later in the one sequence."""
    rest.get(wav)
    rest.delete(f"Recordings/{made.sid}.json")
    media, deletion = sim.timeline
    assert (media.endpoint, deletion.endpoint) == ("media", "delete")
    assert media.sequence < media.finished_sequence < deletion.sequence < deletion.finished_sequence
    assert (media.recording_sid, media.body_bytes) == (made.sid, 64044)
