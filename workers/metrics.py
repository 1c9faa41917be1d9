"""What a worker counts and measures. Labels are static names, never SIDs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from app.receipt import parse_iso
from app.tracing import span

STAGES: Final = ("fetch", "store", "verify", "receipt", "delete")
DELETED: Final = "deleted"
NOTIFICATION_OUTCOMES: Final = ("delivered", "failed", "lost")
DELETION_OUTCOMES: Final = (DELETED, "deletions_paused", "legal_hold", "quarantined")

ATTEMPTS: Final = Counter(
    "archiver_attempts",
    "Attempts of tasks by how they ended: done, or by what kind of failure.",
    ["task", "outcome"],
)
RETRIES: Final = Counter(
    "archiver_retries", "Attempts that failed and are repeated soon, by reason.", ["task", "reason"]
)
LEFT: Final = Counter(
    "archiver_left_to_sweep", "Attempts that failed and are not repeated soon, by reason.", ["task", "reason"]
)
RUNNING: Final = Gauge("archiver_running_tasks", "Tasks that run now.", ["task"])
SLOTS: Final = Gauge("archiver_task_slots", "How many tasks run at a time at most.")
STAGE_SECONDS: Final = Histogram(
    "archiver_stage_seconds",
    "Time of each stage that ended well: `fetch` to the first 200 of the media, `store` while its bytes flow from "
    "Twilio to S3, `verify`, `receipt` with the index, `delete` with its own checks and documents.",
    ["stage"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 2700),
)
MEDIA_LAG_SECONDS: Final = Histogram(
    "archiver_media_lag_seconds",
    "Time from the arrival of a recording's callback to the first 200 of its media.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600),
)
ARCHIVED: Final = Counter("archiver_recordings_archived", "Recordings archived, with a receipt.")
ARCHIVED_BYTES: Final = Counter("archiver_archived_bytes", "Bytes of media archived.")
CONTENT_FAILURES: Final = Counter(
    "archiver_content_failures", "Failures of the content of a recording, which quarantine it, by reason.", ["reason"]
)
DELETIONS: Final = Counter(
    "archiver_deletions", "Deletions at Twilio by outcome: done, or what forbids them.", ["outcome"]
)
NOTIFICATIONS: Final = Counter(
    "archiver_notifications",
    "Notifications that were delivered or lost, and attempts to deliver one that failed.",
    ["outcome"],
)
TWILIO_ANSWERS: Final = Counter("archiver_twilio_answers", "Twilio's answers to REST requests.", ["method", "status"])
TWILIO_CREDENTIALS: Final = Counter(
    "archiver_twilio_credentials",
    "REST requests that Twilio did not answer with 401, by the account's and its credential's place in the settings, "
    "from 0: during a rotation, which auth token is in use.",
    ["account", "credential"],
)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Measure one of the stages; one that fails is not counted here but by its attempt."""
    started = perf_counter()
    with span(name):
        yield
    STAGE_SECONDS.labels(name).observe(perf_counter() - started)


def observe_lag(callback: Mapping[str, str] | None) -> None:
    """Measure how long after its callback the media of a recording came; nothing where the sweep found it."""
    if callback is None or "received_at" not in callback:
        return
    try:
        received_at = parse_iso(callback["received_at"])
    except ValueError:  # whoever can write to Redis can put anything there
        return
    MEDIA_LAG_SECONDS.observe(max(0.0, (datetime.now(UTC) - received_at).total_seconds()))
