"""What goes to Sentry and OpenTelemetry: names, SIDs and outcomes, and nothing that could hold content."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app import tracing
from app.sentry import event_of
from app.settings import CommonSettings, SettingsError, load
from app.tracing import span

ROOT = Path(__file__).resolve().parents[2]
AC, RE = "AC" + "0" * 32, "RE" + "0" * 32
REDIS = {"REDIS_URL": "redis://127.0.0.1:6379/0"}
DSN, ENDPOINT = "https://0123456789abcdef@sentry.example.com/42", "https://otel.example.com/otlp"


def test_an_event_holds_only_what_is_known_to_be_harmless() -> None:
    """Fields with free text, URLs, numbers or exceptions stay in the log."""
    line = {
        "event": "attempt_crashed",
        "task": "archive_recording",
        "account_sid": AC,
        "recording_sid": RE,
        "error": "KeyError",
        "place": "workers/tasks.py:1",
        "reason": "s3_refused",
        "attempts": 5,
        "detail": "free text",
        "url": "https://example.com/?token=secret",
        "exc_info": (ValueError, ValueError("+15550001234"), None),
        "at": "2026-11-22T00:00:00Z",
    }
    event = event_of(line)
    assert event["message"] == "attempt_crashed"
    assert event["fingerprint"] == ["attempt_crashed", "s3_refused"]
    assert set(event["tags"]) == {
        "task",
        "account_sid",
        "recording_sid",
        "error",
        "place",
        "reason",
        "attempts",
    }
    assert set(event) == {"level", "logger", "message", "fingerprint", "tags"}


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Return what keeps the spans of this test."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (found,) = spans.get_finished_spans()
    return found


def test_a_span_says_what_it_is_told(spans: InMemorySpanExporter) -> None:
    """Its attributes are those that were named."""
    with span("callback", account_sid=AC) as said:
        said["outcome"] = "enqueued"
    assert (only(spans).name, dict(only(spans).attributes or {})) == (
        "callback",
        {"account_sid": AC, "outcome": "enqueued"},
    )


def test_a_span_says_nothing_of_an_exception_but_its_type(spans: InMemorySpanExporter) -> None:
    """Its message may quote a number, a URL or a secret."""
    with pytest.raises(ValueError, match="555"), span("store"):
        raise ValueError("+15550001234")
    assert dict(only(spans).attributes or {}) == {"error.type": "ValueError"}
    assert only(spans).events == ()
    assert only(spans).status.description is None


def test_spans_are_nested(spans: InMemorySpanExporter) -> None:
    """A stage belongs to its attempt."""
    with span("archive_recording"), span("fetch"):
        pass
    inner, outer = spans.get_finished_spans()
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id


def test_without_the_settings_nothing_is_loaded() -> None:
    """Who does not use them pays nothing."""
    code = (
        "import sys; from app.sentry import Sentry; from app.tracing import start_tracing, span;"
        "from app.settings import CommonSettings, load; settings = load(CommonSettings);"
        "assert Sentry.of(settings, 'web') == []; start_tracing(settings, 'web');\n"
        "with span('a'): pass\n"
        "print([name for name in sys.modules if name.startswith(('sentry_sdk', 'opentelemetry'))])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=REDIS, capture_output=True, check=True)
    assert ran.stdout.strip() == b"[]"


@pytest.mark.parametrize(("name", "value"), [("SENTRY_DSN", DSN), ("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)])
def test_a_setting_whose_package_is_missing_is_refused(name: str, value: str) -> None:
    """At the start, with exit code 5, and with the command that mends it."""
    code = (
        "import sys; sys.modules['sentry_sdk'] = sys.modules['opentelemetry'] = None;"
        "from app.settings import CommonSettings, load_or_exit; load_or_exit(CommonSettings)"
    )
    environment = {**REDIS, name: value}
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert ran.returncode == 5
    said = ran.stderr.decode()
    assert f"{name}: needs a package that is not installed: pip install --require-hashes -r deploy/extras" in said
    assert value not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SENTRY_DSN", "https://sentry.example.com/42"),
        ("SENTRY_DSN", "https://key@sentry.example.com/"),
        ("SENTRY_DSN", "https://key@sentry.example.com/project"),
        ("SENTRY_DSN", "http://key@sentry.example.com/42"),
        ("SENTRY_DSN", "https://key@sentry.example.com/42?a=1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel.example.com"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://key@otel.example.com"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example.com?key=1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel.example.com:4318"),
    ],
)
def test_wrong_values_are_refused(name: str, value: str) -> None:
    """Nothing goes over plain http but to this machine, and credentials have their places."""
    with pytest.raises(SettingsError, match=f"^{name}: must"):
        load(CommonSettings, {**REDIS, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SENTRY_DSN", DSN),
        ("SENTRY_DSN", "http://key@127.0.0.1:9000/sentry/1"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/"),
    ],
)
def test_right_values_are_taken(name: str, value: str) -> None:
    """A collector beside the process may speak http."""
    settings = load(CommonSettings, {**REDIS, name: value})
    assert value not in repr(settings) or name != "SENTRY_DSN"
    assert getattr(settings, name)
