"""Wires the web process: settings in, Flask application out."""

from typing import Final

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from app.callback import PATH, CallbackEndpoint
from app.health import health_blueprint
from app.metrics import metrics_blueprint
from app.problems import problem
from app.queue import Publisher
from app.settings import WebSettings

_MENDS: Final = {
    404: f"there is nothing here; Twilio's callbacks go to {PATH}",
    405: "use one of the methods in Allow",
    500: "a fault of this service; its log says more",
}


def create_app(settings: WebSettings) -> Flask:
    """Build the application. Opens no connection: the queue is reached when the first callback comes."""
    app = Flask("recording-archiver", static_folder=None)
    app.url_map.merge_slashes = False  # would answer with a redirect, and Twilio would lose the fields
    publisher = Publisher(settings)
    app.register_blueprint(CallbackEndpoint(settings, publisher).blueprint())
    app.register_blueprint(health_blueprint(publisher))
    app.register_blueprint(metrics_blueprint())
    app.register_error_handler(HTTPException, _as_problem)
    return app


def _as_problem(error: HTTPException) -> Response:
    status = error.code or 500
    headers = {"Allow": allow} if (allow := error.get_response().headers.get("Allow")) else None
    return problem(status, _MENDS.get(status, error.name), headers=headers)
