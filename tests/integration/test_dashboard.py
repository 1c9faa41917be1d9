"""The dashboard as shipped, over what a real Prometheus has scraped of a running product."""

import json
import math
from collections.abc import Iterator

import pytest

from app.queue import ARCHIVE_TASK
from deploy.local.processes import wait_until
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.twilio import ErrorStatus, Match, OtherAudio
from tests.integration.prometheus import Prometheus, needs_prometheus
from tests.integration.scraped import MAIN, service

pytestmark = needs_prometheus

PANELS = json.loads((ROOT / "deploy/monitoring/dashboard.json").read_text())["panels"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel.get("targets", ())
}


@pytest.fixture(scope="module")
def prometheus(redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Prometheus]:
    """Return a Prometheus that has watched a product at work: calls, retries, refusals, a sweep and an audit."""
    with (
        service(redis_server, s3_server, database=next(databases)) as watched,
        Prometheus(watched.targets) as prometheus,
    ):
        watched.begin()
        wait_until(lambda: prometheus.query("archiver_media_lag_seconds_count"), timeout_s=20, what="a first scrape")
        for fault, match in (
            (ErrorStatus(503), Match(endpoint="media")),
            (OtherAudio(channels=1), Match(endpoint="media")),
            (ErrorStatus(400, 20001), Match(endpoint="resource")),
        ):
            watched.simulator.inject(fault, match=match)
            watched.archive()
        watched.publisher.publish(ARCHIVE_TASK, account_sid=MAIN.sid, recording_sid="not a SID")
        watched.simulator.send_callback(watched.record(), watched.stack.callback_url, token="not-the-token")
        watched.sweep(everything=True)
        watched.audit()
        yield prometheus


def has_data(prometheus: Prometheus, expression: str) -> bool:
    """Tell whether a query finds a number."""
    found = prometheus.query(expression.replace("$__rate_interval", "1m"))
    return any(not math.isnan(float(each["value"][1])) for each in found)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_every_query_has_data(prometheus: Prometheus, query: str) -> None:
    """No panel of the dashboard is empty while the product is at work."""
    wait_until(lambda: has_data(prometheus, query), timeout_s=20, what=query)


def test_the_rules_are_evaluated(prometheus: Prometheus) -> None:
    """Prometheus itself takes the file, and nothing of it fails."""
    assert prometheus.rule_health() == {"ok"}
