"""What the web process counts, and `/metrics` in Prometheus text format. Labels are static names, never SIDs."""

from functools import partial
from typing import Final

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from app.board import BoardCollector
from app.queue import redis_client
from app.settings import WebSettings

CALLBACKS: Final = Counter(
    "archiver_callbacks", "Requests to the callback endpoint by what became of them.", ["outcome"]
)
CALLBACK_SECONDS: Final = Histogram(
    "archiver_callback_seconds",
    "Time from the arrival of a callback to its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0),
)
SIGNATURE_KEYS: Final = Counter(
    "archiver_signature_keys",
    "Callbacks by the key that signed them: the account and the auth token by their place in the settings, from 0, "
    "or `shared`. A rotation is finished when the old token's count no longer grows.",
    ["account", "key"],
)


# Those that rules look at are there with 0 from the beginning: a counter that appears with 1 has not increased.
_EXPECTED_OUTCOMES: Final = (
    "acknowledged",
    "credentials_wrong",
    "enqueued",
    "malformed",
    "queue_unavailable",
    "signature_ambiguous",
    "signature_missing",
    "signature_wrong",
)
_BOARD_TIMEOUT_S: Final = 0.5  # to connect, and to answer: the thread is one of those that take callbacks


def metrics_blueprint(settings: WebSettings) -> Blueprint:
    """Route `/metrics`, which sums up all processes where `PROMETHEUS_MULTIPROC_DIR` names their directory.

    It also shows what is true of the whole service, as Redis knows it.
    """
    blueprint = Blueprint("metrics", __name__)
    for outcome in _EXPECTED_OUTCOMES:
        CALLBACKS.labels(outcome)
    board = BoardCollector(partial(redis_client, settings, timeout_s=_BOARD_TIMEOUT_S, once=True))

    @blueprint.get("/metrics")
    def metrics() -> Response:
        counted: CollectorRegistry = CollectorRegistry()
        try:
            MultiProcessCollector(counted)  # type: ignore[no-untyped-call] # the library has no types there
        except ValueError:
            counted = REGISTRY
        shared = CollectorRegistry()
        shared.register(board)
        return Response(generate_latest(counted) + generate_latest(shared), content_type=CONTENT_TYPE_LATEST)

    return blueprint
