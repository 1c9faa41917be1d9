"""With callbacks off altogether: the sweep alone brings every recording where it belongs."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import SimRecording, Simulator
from tests.integration.bucket import Bucket
from tests.integration.conftest import MAIN, SUB

KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "call"},
    {"kind": "conference"},
    {"kind": "trunk"},
    {"kind": "record_verb"},
    {"kind": "call", "encrypted": True},
    {"kind": "call", "status": "absent", "error_code": 16102, "seconds": 0.0},
)
FAST = {"SWEEP_INTERVAL": "2s", "SWEEP_GRACE": "1s"}


def happen(simulator: Simulator, count: int) -> list[SimRecording]:
    """Let recordings of every kind happen in both accounts, an hour ago."""
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    return [
        simulator.record(
            (MAIN, SUB)[number % 2].sid, **{"seconds": 2.0, "date_created": hour_ago, **KINDS[number % len(KINDS)]}
        )
        for number in range(count)
    ]


def ended(recordings: list[SimRecording], archived: Bucket) -> bool:
    """Tell whether every completed recording is gone from Twilio and every absent one documented."""
    if any(recording.status == "completed" for recording in recordings):
        return False
    return all(archived.document("absences", each) for each in recordings if each.status == "absent")


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Return a Twilio with two accounts."""
    with Simulator(accounts=[MAIN, SUB]) as simulator:
        yield simulator


@pytest.mark.parametrize("trouble", ["none", "Redis flushed again and again", "two beats"])
def test_everything_ends_as_it_should(
    trouble: str, s3_server: S3Server, simulator: Simulator, request: pytest.FixtureRequest
) -> None:
    """Completed recordings are archived and deleted, absent ones documented, whatever happens to hints and beats."""
    with (
        RedisServer() as redis_server,
        Stack(
            ("worker", "beat"), settings=FAST, redis_server=redis_server, s3_server=s3_server, simulator=simulator
        ) as stack,
    ):
        archived = Bucket(stack.s3.client(), stack.bucket)
        recordings = happen(simulator, 60)
        flushes = 0

        def look() -> bool:
            nonlocal flushes
            # Every flush comes when something has happened since the one before.
            if trouble.startswith("Redis") and len(simulator.timeline) > 50 * (flushes + 1) and flushes < 5:
                redis_server.flush()
                flushes += 1
            return ended(recordings, archived)

        if trouble == "two beats":
            with Stack(("beat",), settings=FAST, redis_server=redis_server, s3_server=s3_server, simulator=simulator):
                wait_until(look, timeout_s=90, what="everything ended", interval_s=0.3)
        else:
            wait_until(look, timeout_s=90, what="everything ended", interval_s=0.3)
        assert flushes > 0 or not trouble.startswith("Redis")
        for recording in recordings:
            deletes = [
                event.status
                for event in simulator.timeline
                if event.method == "DELETE" and event.recording_sid == recording.sid
            ]
            if recording.status == "absent":
                assert deletes == []
                continue
            assert archived.wait_for("deletions", recording)["confirmation"]["status"] == "deleted"
            assert archived.media(recording) == simulator.media_bytes(recording.sid, recording.channels)
            assert deletes.count(204) == 1
            versions = archived.versions(recording)
            assert len(versions) == len(set(versions))
