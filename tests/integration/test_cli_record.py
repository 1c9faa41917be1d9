"""`archiver record` against the simulator."""

import json
from collections.abc import Iterator
from urllib.parse import parse_qsl

import pytest

from deploy.local.twilio import Account, ErrorStatus, Hook, SimCall, Simulator
from tests.integration.command_line import CommandLine

CALLBACK = "https://archive.example.com/recording-status#rc=5&rp=all"


@pytest.fixture
def two() -> Iterator[Simulator]:
    """Return a Twilio with two accounts."""
    with Simulator(accounts=[Account(), Account()]) as simulator:
        yield simulator


@pytest.fixture
def record(archiver: CommandLine, two: Simulator) -> CommandLine:
    """Return the command line with both accounts and nothing of S3 or Redis."""
    main, other = two.accounts.values()
    archiver.set(
        REDIS_URL=None,
        TWILIO_ACCOUNT_SID=main.sid,
        TWILIO_AUTH_TOKEN=main.auth_tokens[0],
        TWILIO_ACCOUNTS=json.dumps([{"account_sid": other.sid, "auth_tokens": other.auth_tokens}]),
        TWILIO_API_BASE_URL=two.url,
    )
    return archiver


@pytest.fixture
def asked(two: Simulator) -> list[dict[str, str]]:
    """Return the forms that will be sent to Twilio, in order."""
    forms: list[dict[str, str]] = []
    two.inject(Hook(before=lambda request: forms.append(dict(parse_qsl(request.body.decode())))), times=None)
    return forms


@pytest.fixture
def call(two: Simulator) -> SimCall:
    return two.place_call(next(iter(two.accounts)))


def test_a_live_call_is_recorded(record: CommandLine, two: Simulator, call: SimCall) -> None:
    """In two channels, with this archiver as its callback for every event; the SID is the only output."""
    ran = record("record", "start", call.sid)
    (recording,) = two.recordings.values()
    assert (ran.code, ran.out, ran.err) == (0, f"{recording.sid}\n", "")
    assert (recording.call_sid, recording.status) == (call.sid, "in-progress")
    assert (recording.channels, recording.created_channels, recording.track) == (2, 2, "both")
    assert recording.callback is not None
    assert (recording.callback.url, recording.callback.method) == (CALLBACK, "POST")
    assert recording.callback.events == ("in-progress", "completed", "absent")


def test_json_names_what_was_started(record: CommandLine, call: SimCall) -> None:
    """Machines learn the SIDs and the status."""
    started = record("record", "start", call.sid, "--track", "inbound", "--json").json
    assert (started["call_sid"], started["account_sid"]) == (call.sid, call.account_sid)
    assert (started["status"], started["track"]) == ("in-progress", "inbound")


@pytest.mark.parametrize("trim", [False, True])
def test_silence_is_trimmed_when_asked(
    record: CommandLine, call: SimCall, asked: list[dict[str, str]], trim: bool
) -> None:
    """Every choice is sent to Twilio in its own words."""
    assert record("record", "start", call.sid, *(["--trim"] if trim else [])).code == 0
    assert asked[0]["Trim"] == ("trim-silence" if trim else "do-not-trim")


def test_credentials_of_the_endpoint_are_given_and_not_shown(
    record: CommandLine, two: Simulator, call: SimCall
) -> None:
    """Where the endpoint asks for HTTP Basic, Twilio gets the credentials in the URL, and nobody else sees them."""
    record.set(WEBHOOK_USERNAME="twilio", WEBHOOK_PASSWORD="planted/@secret")
    dry = record("record", "start", call.sid, "--dry-run")
    ran = record("record", "start", call.sid, "--json")
    (recording,) = two.recordings.values()
    assert recording.callback is not None
    assert recording.callback.url == CALLBACK.replace("//", "//twilio:planted%2F%40secret@")
    assert "planted" not in dry.out + dry.err + ran.out + ran.err
    assert CALLBACK in dry.err


def test_the_only_recording_is_paused_resumed_and_stopped(record: CommandLine, two: Simulator, call: SimCall) -> None:
    """Without a SID the recording that is active is meant; each answer is its SID."""
    sid = record("record", "start", call.sid).out
    for command, status in (("pause", "paused"), ("resume", "in-progress"), ("stop", "completed")):
        ran = record("record", command, call.sid)
        assert (ran.code, ran.out, two.recordings[sid.strip()].status) == (0, sid, status)


@pytest.mark.parametrize(("options", "behaviour"), [([], "silence"), (["--skip"], "skip")])
def test_a_pause_is_silence_or_left_out(
    record: CommandLine, call: SimCall, asked: list[dict[str, str]], options: list[str], behaviour: str
) -> None:
    """Silence is the default: the recording stays as long as the call."""
    record("record", "start", call.sid)
    assert record("record", "pause", call.sid, *options).code == 0
    assert asked[-1] == {"Status": "paused", "PauseBehavior": behaviour}


def test_one_of_several_recordings_is_named(record: CommandLine, two: Simulator, call: SimCall) -> None:
    """When two run, Twilio asks which is meant; --recording says it."""
    first, second = (record("record", "start", call.sid).out.strip() for _ in range(2))
    ran = record("record", "stop", call.sid)
    assert (ran.code, ran.out) == (1, "")
    assert "not_recordable: Twilio answered 400 with code 21220; the call must be live, and of several" in ran.err
    assert record("record", "stop", call.sid, "--recording", first).out == f"{first}\n"
    assert [two.recordings[sid].status for sid in (first, second)] == ["completed", "in-progress"]


def test_a_call_of_another_account(record: CommandLine, two: Simulator) -> None:
    """The account that has the call is found, unless one is asked for that has not."""
    main, other = two.accounts
    call = two.place_call(other)
    ran = record("record", "start", call.sid, "--account", main)
    assert (ran.code, ran.out, two.recordings) == (1, "", {})
    assert record("record", "start", call.sid, "--json").json["account_sid"] == other


def test_a_call_that_has_ended(record: CommandLine, two: Simulator, call: SimCall) -> None:
    """It is too late, and that is said."""
    two.end_call(call)
    ran = record("record", "start", call.sid)
    assert (ran.code, ran.err.count("\n")) == (1, 1)
    assert "the call must be live" in ran.err


@pytest.mark.parametrize("command", ["start", "pause", "resume", "stop"])
def test_a_call_that_nobody_knows(record: CommandLine, two: Simulator, command: str) -> None:
    """All accounts were asked once."""
    ran = record("record", command, "CA" + "0" * 32)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("archiver: not_found: no such live call")
    assert [event.status for event in two.timeline] == [404, 404]


@pytest.mark.parametrize("command", ["start", "pause", "resume", "stop"])
def test_a_dry_run_sends_nothing(record: CommandLine, two: Simulator, call: SimCall, command: str) -> None:
    """It only says what would be asked of Twilio."""
    ran = record("record", command, call.sid, "--dry-run")
    assert (ran.code, ran.out, two.timeline) == (0, "", [])
    assert ran.err.startswith("would ")


def test_a_start_is_not_repeated(record: CommandLine, two: Simulator, call: SimCall) -> None:
    """A failure at Twilio may have started a recording: nobody asks for a second one."""
    two.inject(ErrorStatus(500))
    ran = record("record", "start", call.sid)
    assert ran.code == 1
    assert [event.status for event in two.timeline] == [500]


@pytest.mark.parametrize(
    "arguments",
    [
        ["start"],
        ["start", "CA12"],
        ["start", "RE" + "0" * 32],
        ["start", "CA" + "0" * 32, "--track", "all"],
        ["pause", "CA" + "0" * 32, "--recording", "Twilio.CURRENT/.."],
    ],
)
def test_wrong_usage_sends_nothing(record: CommandLine, two: Simulator, arguments: list[str]) -> None:
    """What is not a SID never gets into a URL."""
    assert (record("record", *arguments).code, two.timeline) == (2, [])
