"""Every way in which a call to Twilio or S3 may fail, dealt out by a die to a share of all calls.

Left out is what nobody could notice, and so nothing a client can be blamed for: audio of the same shape with other
bytes (Twilio gives no digest), a 400 that says with Twilio's own code that there are no two channels, a 404 that says
with Twilio's or S3's word that something is not there, and a store that ignores conditions (which `archiver check`
refuses).
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random

from deploy.local import s3_proxy as s3
from deploy.local import twilio
from deploy.local.twilio import Match, Simulator

CALLS_OF_TWILIO = ("list", "resource", "media", "transcriptions", "addons", "delete", "account", "accounts", "cdn")
COPIES = 3
LOST_SHARE = 0.05
_LONG_SILENCES = 3  # until the client gives up: many would only keep all threads waiting

Die = Callable[[], bool]


def trouble_twilio(simulator: Simulator, rng: Random, share: float) -> None:
    """Let a share of all calls of every kind fail, until the faults are cleared."""
    for endpoint in CALLS_OF_TWILIO:
        match = Match(endpoint=endpoint)
        faults = [*_of_any_answer(), *(_of_media() if endpoint in ("media", "cdn") else _of_json())]
        for fault, die in _dealt(faults, rng, share):
            simulator.inject(fault, match=match, times=None, when=die)
    for endpoint in ("media", "resource", "delete"):
        simulator.inject(
            twilio.Stall(), match=Match(endpoint=endpoint), times=_LONG_SILENCES, skip=20, when=_one_in(rng, 9)
        )


def trouble_s3(proxy: s3.S3Proxy, rng: Random, share: float) -> None:
    """Let a share of all calls of every kind fail, until the faults are cleared."""
    special: dict[str, list[s3.Fault]] = {
        "PutObject": [*_of_writes(), s3.ErrorStatus(412)],
        "CreateMultipartUpload": [],
        "UploadPart": [*_of_writes(), s3.ErrorStatus(404, "NoSuchUpload")],
        "CompleteMultipartUpload": [*_of_writes(), s3.ErrorStatus(412), s3.ErrorStatus(200)],
        "AbortMultipartUpload": [],
        "HeadObject": [s3.WrongChecksum(), s3.WithoutChecksums()],
        "GetObject": [s3.FlipBit(0.5), s3.Cut(0), s3.Cut(0.5), s3.Cut(-1), s3.Cut(0.5, reset=True), s3.WrongChecksum()],
        "DeleteObject": [],
        "ListObjectsV2": [],
        "ListMultipartUploads": [],
    }
    for operation, faults in special.items():
        for fault, die in _dealt([*_of_any_call(), *faults], rng, share):
            proxy.inject(fault, operation, times=None, when=die)
    for operation in ("PutObject", "HeadObject", "CompleteMultipartUpload"):
        proxy.inject(s3.Stall(carried_out=True), operation, times=_LONG_SILENCES, skip=20, when=_one_in(rng, 9))


def trouble_callbacks(simulator: Simulator, rng: Random, latest_s: float) -> None:
    """Send every callback three times, one in twenty never, and all of them late by as much as the dice say."""
    match = Match(endpoint="callback")
    simulator.inject(twilio.RepeatedCallback(COPIES), match=match, times=None)
    simulator.inject(twilio.LostCallback(), match=match, times=None, when=lambda: rng.random() < LOST_SHARE)
    for halvings in range(5):
        delay = twilio.DelayedCallback(latest_s / 2**halvings)
        simulator.inject(delay, match=match, times=None, when=_one_in(rng, 3))


def _dealt(faults: Sequence[twilio.Fault], rng: Random, share: float) -> Iterator[tuple[twilio.Fault, Die]]:
    """Yield each fault with a die, so that a call meets any of them with the probability `share`."""
    each = 1 - (1 - share) ** (1 / len(faults))
    for fault in faults:
        yield fault, lambda: rng.random() < each


def _one_in(rng: Random, many: int) -> Die:
    return lambda: rng.random() < 1 / many


def _of_any_answer() -> Iterator[twilio.Fault]:
    """Yield what may happen to any request to Twilio."""
    yield from (twilio.throttled(), twilio.throttled(retry_after=1))
    yield from (twilio.ErrorStatus(500), twilio.ErrorStatus(502, shape="xml"), twilio.ErrorStatus(503, retry_after=1))
    yield from (
        twilio.ErrorStatus(401, 20003),
        twilio.ErrorStatus(403, 20403),
        twilio.ErrorStatus(500, shape="problem"),
    )
    yield from (twilio.AnswerLost(), twilio.AnswerLost(reset=True), twilio.Stall(seconds=3))


def _of_json() -> Iterator[twilio.Fault]:
    """Yield what may happen to answers that should be JSON."""
    yield from (twilio.ErrorPage("html"), twilio.ErrorPage("xml", content_type="application/json"))
    yield from (twilio.ErrorPage("empty"), twilio.Cut(0.5), twilio.Cut(-1, framing="chunked"))


def _of_media() -> Iterator[twilio.Fault]:
    """Yield what may happen to a download."""
    yield from (twilio.NotReady(), twilio.Stall(at=0.5, seconds=3), twilio.Trickle(step_bytes=20_000, pause_s=0.02))
    for at in (0, 1, 0.5, -1):
        yield from (twilio.Cut(at), twilio.Cut(at, framing="close"), twilio.Cut(at, framing="chunked"))
        yield twilio.Cut(at, reset=True)
    yield from (twilio.Deliver("close"), twilio.Deliver("chunked"), twilio.Gzip())
    yield from (twilio.Headers({"Content-Type": None}), twilio.Headers({"Content-Type": "application/octet-stream"}))
    for page in ("xml", "json", "html", "empty"):
        yield from (twilio.ErrorPage(page), twilio.ErrorPage(page, content_type="audio/x-wav"))
    yield from (twilio.OtherAudio(channels=1), twilio.OtherAudio(seconds=9.0))
    yield from (twilio.Redirect(), twilio.Redirect("https://media.example.net/x.wav"))
    yield from (twilio.Redirect("http://localhost:1/x.wav"), twilio.Redirect("{url}{path}?{query}"))
    yield twilio.ErrorStatus(400, 20001)


def _of_any_call() -> Iterator[s3.Fault]:
    """Yield what may happen to any request to S3."""
    yield from (s3.ErrorStatus(500), s3.ErrorStatus(503), s3.ErrorStatus(503, retry_after=1), s3.ErrorStatus(403))
    yield from (s3.Reset(), s3.Reset(after_body=True), s3.AnswerLost(), s3.AnswerLost(reset=True))
    yield from (s3.Delay(1), s3.Stall(seconds=3), s3.Stall(carried_out=True, seconds=3))


def _of_writes() -> Iterator[s3.Fault]:
    """Yield what may happen to a write."""
    yield from (s3.ErrorStatus(400, "BadDigest"), s3.ErrorStatus(403, "RequestTimeTooSkewed"), s3.ErrorStatus(409))
    yield s3.ErrorStatus(404, "NoSuchBucket")
