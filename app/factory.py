"""Wires the web process: settings in, Flask application out."""

from typing import Any, Final
from urllib.parse import unquote_to_bytes, urlsplit

import structlog
from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import Rule

from app.callback import PATH, CallbackEndpoint
from app.health import health_blueprint
from app.metrics import metrics_blueprint
from app.problems import problem
from app.queue import ENDPOINT_LIMIT_S, Publisher
from app.settings import WebSettings

_MENDS: Final = {
    404: f"there is nothing here; Twilio's callbacks go to {PATH}",
    405: "use one of the methods in Allow",
    500: "a fault of this service; its log says more",
}

log = structlog.get_logger()


def create_app(settings: WebSettings) -> Flask:
    """Build the application. Opens no connection: the queue is reached when the first callback comes."""
    app = Flask("recording-archiver", static_folder=None)
    app.url_map.merge_slashes = False  # would answer with a redirect, and Twilio would lose the fields
    publisher = Publisher(settings, limit_s=ENDPOINT_LIMIT_S)
    # For every method: the endpoint refuses, counts and logs those that are not Twilio's.
    app.url_map.add(Rule(PATH, endpoint="callback", strict_slashes=False))
    app.view_functions["callback"] = CallbackEndpoint(settings, publisher).answer
    app.register_blueprint(health_blueprint(publisher))
    app.register_blueprint(metrics_blueprint(settings))
    app.register_error_handler(HTTPException, _as_problem)
    app.log_exception = _log_fault  # type: ignore[method-assign]
    if prefix := urlsplit(settings.PUBLIC_URL).path:  # which a proxy may have stripped or not
        mount = unquote_to_bytes(prefix).decode("latin-1")  # as WSGI gives paths
        app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {mount: app.wsgi_app})  # type: ignore[method-assign]
    return app


def _log_fault(exc_info: Any) -> None:
    log.error("request_failed", exc_info=exc_info)


def _as_problem(error: HTTPException) -> Response:
    status = error.code or 500
    headers = {"Allow": allow} if (allow := error.get_response().headers.get("Allow")) else None
    return problem(status, _MENDS.get(status, error.name), headers=headers)
