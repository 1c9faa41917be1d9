"""What gunicorn serves (`gunicorn 'app.wsgi:main()'`)."""

from flask import Flask

from app.alarms import Alarms
from app.factory import create_app
from app.logs import configure_logs, warn_of_misspelled
from app.sentry import Sentry
from app.settings import WebSettings, load_or_exit
from app.tracing import start_tracing


def main() -> Flask:
    """Build the application from the environment, or end with exit code 5 and every mistake listed."""
    settings = load_or_exit(WebSettings)
    configure_logs(settings.LOG_FORMAT, settings.LOG_LEVEL, [Alarms.of(settings), *Sentry.of(settings, "web")])
    warn_of_misspelled()
    start_tracing(settings, "web")
    return create_app(settings)
