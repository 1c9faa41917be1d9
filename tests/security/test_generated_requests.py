"""Whatever is sent to the endpoint: no fault, no acceptance without a signature, no trace in the queue."""

from collections.abc import Iterator

from deploy.local.servers import RedisServer, S3Server
from tests.integration.callback_tools import needs_proc, web_process
from tests.security.cases import KINDS
from tests.security.generated_requests import run
from tests.security.genuine import MAIN, SUB


@needs_proc
def test_generated_requests(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> None:
    """Genuine requests are accepted, others at most as what was signed, and nothing is ever answered with a 5xx."""
    with web_process([MAIN, SUB], redis_server, s3_server, database=next(databases)) as web:
        summary = run(web, 2500, seed=1)
    assert summary.faults == []
    assert summary.enqueued > 0
    assert set(summary.kinds) == {kind.__name__ for kind in KINDS}
