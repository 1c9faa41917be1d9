"""Whether the process runs, and whether it can take callbacks."""

from flask import Blueprint, Response

from app.problems import problem
from app.queue import Publisher, QueueUnavailableError


def health_blueprint(publisher: Publisher) -> Blueprint:
    """Route `/healthz` (the process answers; never touches Redis) and `/readyz` (the queue answers too)."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return Response("ok\n", content_type="text/plain; charset=utf-8")

    @blueprint.get("/readyz")
    def readyz() -> Response:
        try:
            publisher.ping()
        except QueueUnavailableError:
            return problem(503, "the queue does not answer; check REDIS_URL and the Redis server")
        return Response("ready\n", content_type="text/plain; charset=utf-8")

    return blueprint
