"""Hints in Redis: leases and locks save work, end with their holder, and are not missed when Redis is away."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.queue import KEY_PREFIX
from app.settings import CommonSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer
from workers.hints import LEASE_S, Hints

ROOT = Path(__file__).resolve().parents[2]
SID = "RE" + "1" * 32
SHORT_S = 3.0  # renewed after a second; a busy machine may be late by two


def hints(url: str, lease_s: float = LEASE_S) -> Hints:
    return Hints(load(CommonSettings, {"REDIS_URL": url}), lease_s)


def remaining_ms(server: RedisServer, database: int, name: str = f"lease:{SID}") -> int:
    """Return how long Redis will still keep a key; negative when it keeps none."""
    with server.client(database) as client:
        return int(client.pttl(KEY_PREFIX + name))


def test_a_lease_is_exclusive_and_ends_with_its_block(redis_url: str) -> None:
    """While one holds a recording nobody else does, in this process or another; then the next one may."""
    ours, theirs = hints(redis_url), hints(redis_url)
    with (
        ours.lease(SID) as first,
        ours.lease(SID) as again,
        theirs.lease(SID) as other,
        theirs.lease("RE2") as elsewhere,
    ):
        assert (first, again, other, elsewhere) == (True, False, False, True)
    with theirs.lease(SID) as free:
        assert free


def test_one_of_many_threads_is_given_a_lease(redis_url: str) -> None:
    """Of threads that ask at the same moment exactly one is told yes."""
    shared, start, end = hints(redis_url), threading.Barrier(10), threading.Barrier(10)

    def ask(_number: int) -> bool:
        start.wait(10)
        with shared.lease(SID) as free:
            end.wait(10)
            return free

    with ThreadPoolExecutor(10) as pool:
        assert sum(pool.map(ask, range(10))) == 1


def test_who_was_refused_ends_nobodys_lease(redis_url: str) -> None:
    """A block that does not hold the lease leaves it to its holder."""
    ours, theirs = hints(redis_url), hints(redis_url)
    with ours.lease(SID):
        with theirs.lease(SID) as other:
            assert not other
        with theirs.lease(SID) as other:
            assert not other


def test_a_lease_ends_also_with_an_error(redis_url: str) -> None:
    """An error in the block is passed on, and the recording is free."""
    ours = hints(redis_url)
    with pytest.raises(ValueError, match="in the block"), ours.lease(SID):
        raise ValueError("in the block")
    with ours.lease(SID) as free:
        assert free


def test_a_lease_is_renewed_while_it_is_held(redis_server: RedisServer, redis_database: int) -> None:
    """The time that is left rises again and again as long as the block runs, for every lease that is held."""
    ours = hints(redis_server.url(redis_database), SHORT_S)
    with ours.lease("RE2"), ours.lease(SID):
        for name in (f"lease:{SID}", "lease:RE2", f"lease:{SID}"):
            least = SHORT_S * 1000

            def renewed(name: str = name) -> bool:
                nonlocal least
                left = remaining_ms(redis_server, redis_database, name)
                assert left > 0
                least = min(least, left)
                return left > least + 50

            wait_until(renewed, timeout_s=10, what="renewal")
    assert remaining_ms(redis_server, redis_database) < 0


def test_a_lease_lasts_half_a_minute(redis_server: RedisServer, redis_database: int) -> None:
    """Without further settings a dead holder's work is free after half a minute."""
    with hints(redis_server.url(redis_database)).lease(SID):
        assert 25_000 < remaining_ms(redis_server, redis_database) <= 30_000


HOLD = """
import sys
from app.settings import CommonSettings, load
from workers.hints import Hints

with Hints(load(CommonSettings, {"REDIS_URL": sys.argv[1]}), float(sys.argv[3])).lease(sys.argv[2]) as free:
    print(free, flush=True)
    sys.stdin.read()
"""


def test_a_lease_ends_after_its_holders_death(redis_url: str) -> None:
    """A killed process renews nothing: its recording is free as soon as the lease has run out."""
    command = [sys.executable, "-c", HOLD, redis_url, SID, str(SHORT_S)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        ours = hints(redis_url)
        with ours.lease(SID) as free:
            assert not free
        holder.kill()
        holder.wait(10)

    def is_free() -> bool:
        with ours.lease(SID) as free:
            return free

    wait_until(is_free, timeout_s=5, what="the end of the lease")


def test_without_redis_everything_is_free() -> None:
    """Nobody listening means yes to every question: twins do no harm, and nothing waits for a hint."""
    nobody = hints("redis://127.0.0.1:1/0")
    with nobody.lease(SID) as free, nobody.lease(SID) as again, nobody.lease("sweep") as sweep:
        assert free
        assert again
        assert sweep
    nobody.remember_done("chore", 60)
    assert not nobody.was_done("chore", 60)
    nobody.remember_position("work", datetime.now(UTC))
    assert nobody.position("work") is None
    assert nobody.queue_depth("archive") == 0


def test_a_redis_that_forgets_or_goes_away_ends_no_work() -> None:
    """A lease that is lost while it is held, by a flush or with its server, is no error to its holder."""
    with RedisServer() as server:
        ours, theirs = hints(server.url()), hints(server.url())
        with ours.lease(SID):
            server.flush()
            with theirs.lease(SID) as taken:
                assert taken
        with ours.lease(SID) as free:
            assert free
            server.kill()


def test_one_sweep_runs_at_a_time(redis_url: str) -> None:
    """The sweep's lock is given once, and is free again after the sweep."""
    ours, theirs = hints(redis_url), hints(redis_url)
    with ours.lease("sweep") as first:
        with theirs.lease("sweep") as second:
            assert (first, second) == (True, False)
        with theirs.lease("sweep") as third:
            assert not third
    with theirs.lease("sweep") as free:
        assert free


def test_a_chore_that_was_done_is_remembered_for_its_time(redis_server: RedisServer, redis_database: int) -> None:
    """Everybody is told that it was done, until the time is over; each chore has a time of its own."""
    url = redis_server.url(redis_database)
    assert not hints(url).was_done("a", 60)
    hints(url).remember_done("a", 60)
    assert hints(url).was_done("a", 60)
    assert not hints(url).was_done("b", 60)
    assert 55_000 < remaining_ms(redis_server, redis_database, "chore:a") <= 60_000


@pytest.mark.parametrize("life_s", [None, 61])
def test_a_planted_chore_counts_for_nothing(redis_server: RedisServer, redis_database: int, life_s: int | None) -> None:
    """What would be remembered longer than we remember anything was put there by somebody else, and is removed."""
    with redis_server.client(redis_database) as client:
        client.set(f"{KEY_PREFIX}chore:a", "done", ex=life_s)
    assert not hints(redis_server.url(redis_database)).was_done("a", 60)
    assert remaining_ms(redis_server, redis_database, "chore:a") < 0


@pytest.mark.parametrize("planted", ["for ever", "for a day", "a list"])
def test_a_planted_lease_is_taken_over(redis_server: RedisServer, redis_database: int, planted: str) -> None:
    """Whoever can write to Redis keeps nothing from being done for ever: a lease of ours never lasts so long."""
    name = f"{KEY_PREFIX}lease:{SID}"
    with redis_server.client(redis_database) as client:
        if planted == "a list":
            client.rpush(name, "somebody else")
        else:
            client.set(name, "somebody else", ex=86_400 if planted == "for a day" else None)
    ours, theirs = hints(redis_server.url(redis_database)), hints(redis_server.url(redis_database))
    with ours.lease(SID) as free, theirs.lease(SID) as other:
        assert free
        assert not other


def test_a_position_is_remembered_until_the_end_is_reached(redis_server: RedisServer, redis_database: int) -> None:
    """What was reached is told to everybody; what is no time is none."""
    url = redis_server.url(redis_database)
    reached = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    assert hints(url).position("work") is None
    hints(url).remember_position("work", reached)
    assert hints(url).position("work") == reached
    hints(url).remember_position("work", None)
    assert hints(url).position("work") is None
    with redis_server.client(redis_database) as client:
        client.set(f"{KEY_PREFIX}position:work", "yesterday")
    assert hints(url).position("work") is None


def test_the_depth_of_a_queue_is_told(redis_server: RedisServer, redis_database: int) -> None:
    """As many messages as wait in the queue of that name."""
    with redis_server.client(redis_database) as client:
        client.rpush(f"{KEY_PREFIX}archive", "1", "2")
    ours = hints(redis_server.url(redis_database))
    assert (ours.queue_depth("archive"), ours.queue_depth("delete")) == (2, 0)


def test_documented_absences_are_remembered(redis_url: str) -> None:
    """What was remembered is told of those that were asked for, and of no others."""
    ours = hints(redis_url)
    ours.remember_documented("RE1")
    assert hints(redis_url).documented(["RE1", "RE2"]) == {"RE1"}
    assert ours.documented([]) == set()
    nobody = hints("redis://127.0.0.1:1/0")
    nobody.remember_documented("RE1")
    assert nobody.documented(["RE1"]) == set()


def test_what_rests_is_remembered_for_its_time(redis_server: RedisServer, redis_database: int) -> None:
    """A recording for which nothing can be done is told apart, for as long as was said."""
    url = redis_server.url(redis_database)
    hints(url).remember_resting("RE1", 3600)
    assert hints(url).resting(["RE1", "RE2"]) == {"RE1"}
    assert hints(url).documented(["RE1"]) == set()
    assert 3_590_000 < remaining_ms(redis_server, redis_database, "rests:RE1") <= 3_600_000


def test_a_planted_hint_that_is_no_text_stops_nothing(redis_server: RedisServer, redis_database: int) -> None:
    """Whatever bytes somebody put there, a sweep asks about its recordings and goes on from the beginning."""
    with redis_server.client(redis_database) as client:
        for name in ("absence:RE1", "rests:RE1", "position:sweep"):
            client.set(KEY_PREFIX + name, b"\xff")
    ours = hints(redis_server.url(redis_database))
    assert ours.documented(["RE1", "RE2"]) == ours.resting(["RE1", "RE2"]) == {"RE1"}
    assert ours.position("sweep") is None


def test_deletions_that_were_begun_are_remembered_until_they_are_ended(redis_url: str) -> None:
    """The oldest first, and none that is not a recording of an account; without Redis there are none."""
    ours, account, other = hints(redis_url), "AC" + "1" * 32, "RE" + "2" * 32
    begun = [ours.remember_deletion(account, sid) for sid in (SID, other, "RE/nonsense", SID)]
    assert begun == [True, True, True, False]
    assert ours.unfinished_deletions(0, most=9) == [(account, SID), (account, other)]
    assert ours.unfinished_deletions(0, most=1) == [(account, SID)]
    assert ours.unfinished_deletions(60, most=9) == ours.unfinished_deletions(0, most=0) == []
    ours.forget_deletion(account, SID)
    assert hints(redis_url).unfinished_deletions(0, most=9) == [(account, other)]
    away = hints("redis://127.0.0.1:1/0")
    assert not away.remember_deletion(account, SID)
    away.forget_deletion(account, SID)
    assert away.unfinished_deletions(0, most=9) == []
