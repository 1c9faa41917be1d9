"""Whatever is sent to the endpoint: no fault, no acceptance without a signature, no trace in the queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.servers import RedisServer, S3Server
from tests.integration.callback_tools import web_process
from tests.security.generated_requests import run
from tests.security.genuine import MAIN, SUB


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_generated_requests(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> None:
    """Genuine requests are accepted, others at most as what was signed, and nothing is ever answered with a 5xx."""
    with web_process([MAIN, SUB], redis_server, s3_server, database=next(databases)) as web:
        summary = run(web, 4000, seed=1)
    assert summary.faults == []
    assert summary.enqueued > 0
    assert len(summary.kinds) == 17
