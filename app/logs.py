"""Structured logs: static event names with data as fields, JSON in production, readable on a terminal.

Everything goes to standard error: standard output belongs to the data of the command line.
"""

import logging
import sys
from typing import Literal

import structlog


def configure_logs(log_format: Literal["json", "console"], level: str) -> None:
    """Send structlog's events and the standard library's records (Celery, gunicorn) through one format."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
    ]
    renderer: structlog.types.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
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
                structlog.processors.format_exc_info,
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
