"""What the web process counts, and `/metrics` in Prometheus text format. Labels are static names, never SIDs."""

from typing import Final

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

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


def metrics_blueprint() -> Blueprint:
    """Route `/metrics`, which sums up all processes where `PROMETHEUS_MULTIPROC_DIR` names their directory."""
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def metrics() -> Response:
        registry: CollectorRegistry = CollectorRegistry()
        try:
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call] # the library has no types there
        except ValueError:
            registry = REGISTRY
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint
