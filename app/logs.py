"""Structured logs: static event names with data as fields, JSON in production, readable on a terminal.

Everything goes to standard error: standard output belongs to the data of the command line.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from typing import Literal

import structlog

from app.settings import misspelled


def configure_logs(
    log_format: Literal["json", "console"], level: str, watchers: Sequence[structlog.types.Processor] = ()
) -> None:
    """Send structlog's events and the standard library's records (Celery, gunicorn) through one format.

    `watchers` see each of our own events before it is written.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    renderer: structlog.types.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[*shared, *watchers, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.ExceptionRenderer(_where),
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Below a warning these speak of every request and connection, with URLs that may carry queries.
    for name in ("urllib3", "botocore", "boto3", "kombu", "amqp", "celery"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in ("celery.worker.strategy", "celery.app.trace"):
        # Celery's own lines print arguments and exceptions of tasks; ours say the same without content.
        logging.getLogger(name).setLevel(logging.CRITICAL)


def warn_of_misspelled() -> None:
    """Say which variables look like settings and are none: a TWILIO_DELETE=never that is misspelled lets delete."""
    for name, meant in misspelled().items():
        structlog.get_logger().warning("setting_misspelled", name=name, meant=meant)


def _where(exc_info: structlog.typing.ExcInfo) -> str:
    """Format an exception and its causes without their messages, which may quote a number, a URL or a secret."""
    error: BaseException | None = exc_info[1]
    lines: list[str] = []
    while error is not None:
        name = f"{type(error).__module__}.{type(error).__qualname__}\n"
        lines[:0] = [*traceback.format_tb(error.__traceback__), name]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "".join(lines)
