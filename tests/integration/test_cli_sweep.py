"""`archiver sweep`, as cron runs it: what it says, and that its exit code tells how it went."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from deploy.local.twilio import Account, ErrorStatus, Match, Simulator
from tests.integration.command_line import CommandLine
from tests.integration.workbench import Workbench

OTHER = "AC" + "c3" * 16


@pytest.fixture
def bench(make_workbench: Callable[..., Workbench], archiver: CommandLine, simulator: Simulator) -> Workbench:
    """Return both sides with two accounts, and a recording of an hour ago."""
    simulator.store.accounts[OTHER] = Account(sid=OTHER, auth_tokens=["other-token"])
    bench = make_workbench()
    archiver.use(bench)
    bench.record(date_created=datetime.now(UTC) - timedelta(hours=1))
    return bench


def test_a_sweep_says_how_many_it_enqueued(bench: Workbench, archiver: CommandLine, redis_url: str) -> None:
    """All is well: exit code 0, for people and for programs."""
    ran = archiver("sweep", "--dry-run", "--json")
    assert (ran.code, ran.json) == (0, {"outstanding": 1, "failed_accounts": []})
    assert bench.under(REDIS_URL=redis_url).work.hints.queue_depth("archive") == 0
    assert archiver("sweep").code == 0
    ran = archiver("sweep", "--json")
    assert (ran.code, ran.json) == (0, {"enqueued": 1, "failed_accounts": []})


def test_an_account_that_could_not_be_swept_shows_in_the_exit_code(bench: Workbench, archiver: CommandLine) -> None:
    """The others are swept, and cron is told."""
    bench.simulator.inject(ErrorStatus(500), match=Match(endpoint="list", account_sid=OTHER), times=None)
    ran = archiver("sweep", "--json")
    assert (ran.code, ran.json["failed_accounts"]) == (3, [OTHER])
    assert ran.json["enqueued"] > 0


@pytest.mark.parametrize(("status", "code"), [(401, 5), (500, 1)])
def test_when_no_account_could_be_swept_the_sweep_has_failed(
    bench: Workbench, archiver: CommandLine, status: int, code: int
) -> None:
    """One line says why; refused credentials are a fault of the configuration."""
    bench.simulator.inject(ErrorStatus(status), match=Match(endpoint="list"), times=None)
    ran = archiver("sweep")
    assert ran.code == code
    assert ran.err.splitlines()[-1].startswith("archiver: twilio_")


def test_a_queue_that_is_away_is_named(bench: Workbench, archiver: CommandLine) -> None:
    """Not the name of an exception: what is wrong, and what says more."""
    archiver.set(REDIS_URL="redis://127.0.0.1:1/0")
    ran = archiver("sweep")
    assert (ran.code, bench.simulator.timeline != []) == (1, True)
    assert "archiver check --only redis" in ran.err.splitlines()[-1]
