"""Where Prometheus reads what a worker counts: an endpoint of its own, on METRICS_PORT.

A worker is one process with threads, so that each has an endpoint; what concerns the whole service is on the board
(`app.board`), which every endpoint shows.
"""

from functools import partial
from typing import Final

import structlog
from prometheus_client import REGISTRY, start_http_server

from app.board import BoardCollector
from app.queue import TASKS, redis_client
from app.settings import WorkerSettings
from workers import metrics
from workers.attempts import OUTCOMES

_SCRAPE_TIMEOUT_S: Final = 1.0

log = structlog.get_logger()


def serve(settings: WorkerSettings) -> None:
    """Answer Prometheus, in threads of their own; nothing where METRICS_PORT is not set.

    A port that is taken is no reason not to archive.
    """
    if settings.METRICS_PORT is None:
        return
    _expect(settings)
    REGISTRY.register(BoardCollector(partial(redis_client, settings, timeout_s=_SCRAPE_TIMEOUT_S, once=True)))
    try:
        start_http_server(settings.METRICS_PORT)
    except OSError as error:
        log.error("metrics_not_served", error=type(error).__name__, mend="give each worker a METRICS_PORT of its own")


def _expect(settings: WorkerSettings) -> None:
    """Show with 0 what rules are made of: a counter that appears with 1 has not increased."""
    metrics.SLOTS.set(settings.CELERY_CONCURRENCY)
    for task in TASKS:
        metrics.RUNNING.labels(task)
        for outcome in OUTCOMES:
            metrics.ATTEMPTS.labels(task, outcome)
    for name in metrics.STAGES:
        metrics.STAGE_SECONDS.labels(name)
    metrics.TWILIO_ANSWERS.labels("GET", "429")
    for outcome in metrics.NOTIFICATION_OUTCOMES:
        metrics.NOTIFICATIONS.labels(outcome)
    for outcome in metrics.DELETION_OUTCOMES:
        metrics.DELETIONS.labels(outcome)
