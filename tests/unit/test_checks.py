"""What `archiver check` concludes without any server: groups that end in time, faults in words, clocks, settings."""

import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from threading import Event

import pytest

from app.settings import misspelled
from workers.checks.network import fault_of, judge_clock, judge_skew
from workers.checks.results import Result, State, green
from workers.checks.runner import Group, run

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def test_a_group_that_never_ends_is_left_behind() -> None:
    """What it has found counts, and it is red because the rest is not known."""
    released = Event()

    def checks() -> Iterator[Result]:
        yield green("first", "works")
        released.wait(10)

    stuck, quick = Group("stuck", checks), Group("quick", lambda: [green("only", "works")])
    try:
        run([stuck, quick], lambda: None, limit_s=0.2)
        assert [(each.name, each.state) for each in stuck.results] == [("first", State.GREEN), ("check", State.RED)]
        assert (stuck.worst, quick.worst) == (State.RED, State.GREEN)
    finally:
        released.set()


def test_a_fault_of_a_check_is_a_result() -> None:
    """It is red and names no value; the error itself is kept for --debug."""

    def checks() -> Iterator[Result]:
        yield green("first", "works")
        raise ValueError("a planted value")

    group = Group("faulty", checks)
    run([group], lambda: None)
    assert group.worst is State.RED
    assert "planted" not in group.results[-1].found
    assert isinstance(group.error, ValueError)


def caused_by(cause: BaseException) -> Exception:
    """Wrap an error as libraries do, with a text that is not to be shown."""
    try:
        try:
            raise cause
        except BaseException as error:
            raise OSError("https://planted.example") from error
    except OSError as wrapped:
        return wrapped


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (socket.gaierror(-2, "planted"), "name"),
        (ConnectionRefusedError(), "refused"),
        (TimeoutError(), "timeout"),
        (ssl.SSLCertVerificationError(1, "planted"), "certificate"),
        (ssl.SSLError(1, "planted"), "tls"),
        (ssl.SSLEOFError(8, "planted"), "closed"),
        (ConnectionResetError(), "closed"),
    ],
)
def test_a_fault_is_found_among_its_causes(cause: BaseException, kind: str) -> None:
    """Nothing of an error's own text is shown."""
    fault = fault_of(caused_by(cause))
    assert fault.kind == kind
    assert "planted" not in fault.words


def test_what_is_no_fault_of_the_network_is_named_by_its_type() -> None:
    """An error of another kind is named, not quoted."""
    assert fault_of(KeyError("planted")).words == "KeyError"


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, "green"), (29, "green"), (-31, "amber"), (299, "amber"), (-300, "red")]
)
def test_clocks_are_judged(seconds: float, state: str) -> None:
    """Half a minute is amber and five minutes are red, in either direction."""
    assert judge_skew("clock", seconds).state == state
    header = format_datetime(NOW - timedelta(seconds=seconds), usegmt=True)
    assert judge_clock("clock", header, NOW).state == state


@pytest.mark.parametrize("header", ["", "yesterday"])
def test_a_date_that_is_none_is_skipped(header: str) -> None:
    """Without a date nothing is claimed."""
    assert judge_clock("clock", header, NOW).state is State.SKIPPED


def test_misspelled_settings_are_found() -> None:
    """A variable that looks like a setting is named with it; settings, their files and other variables are not."""
    environ = dict.fromkeys(
        ("ARCHIVE_BUKET", "TWILIO_AUTH_TOKEN_FIEL", "ARCHIVE_BUCKET", "WEBHOOK_PASSWORD_FILE", "PATH", "AWS_REGION"),
        "x",
    )
    environ |= dict.fromkeys(("twilio_delete", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), "x")  # the latter is its SDK's
    assert misspelled(environ) == {
        "ARCHIVE_BUKET": "ARCHIVE_BUCKET",
        "TWILIO_AUTH_TOKEN_FIEL": "TWILIO_AUTH_TOKEN_FILE",
        "twilio_delete": "TWILIO_DELETE",
    }
