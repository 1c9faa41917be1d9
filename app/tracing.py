"""Traces for OpenTelemetry, for those who want them: a span for each callback, each attempt of a task and each stage.

Nothing is instrumented behind our back, so that no URL, header, query string or exception gets into a span; what is in
it is named by whoever opens it. The SDK is an extra; without OTEL_EXPORTER_OTLP_ENDPOINT it is not even loaded.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.receipt import archiver_version
from app.settings import CommonSettings

_tracer: Any = None  # one for the process, like its log


def start_tracing(settings: CommonSettings, process: str) -> None:
    """Send spans to OTEL_EXPORTER_OTLP_ENDPOINT, in a thread of the SDK's own; nothing where it is not set."""
    global _tracer
    if settings.OTEL_EXPORTER_OTLP_ENDPOINT is None:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource(
        {
            "service.name": settings.OTEL_SERVICE_NAME,
            "service.version": archiver_version(),
            "archiver.process": process,
        }
    )
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{settings.OTEL_EXPORTER_OTLP_ENDPOINT}/v1/traces")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("recording-archiver")


@contextmanager
def span(name: str, **attributes: str | int) -> Iterator[dict[str, str | int]]:
    """Measure a block as a span of that name; what is put into the dictionary that is yielded is said of it, too.

    Of an exception only the type is said.
    """
    if _tracer is None:
        yield {}
        return
    more: dict[str, str | int] = {}
    options = {"attributes": attributes, "record_exception": False, "set_status_on_exception": False}
    with _tracer.start_as_current_span(name, **options) as opened:
        try:
            yield more
        except BaseException as error:
            opened.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            opened.set_attributes(more)
