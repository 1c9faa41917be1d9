"""The Celery instance, each setting with its reason."""

from datetime import timedelta
from typing import Any, Final

from celery import Celery, signals
from celery.schedules import crontab

from app.queue import AUDIT_TASK, SWEEP_TASK, broker_config
from app.settings import BeatSettings, CommonSettings, WorkerSettings
from workers.media import TOTAL_LIMIT_S
from workers.tasks import Work, register

# Longer than the longest download, so that a message is not handed out again while it is worked on.
_VISIBILITY_TIMEOUT_S: Final = int(TOTAL_LIMIT_S) + 15 * 60
_HOUR_S: Final = 60 * 60.0


def _create(settings: CommonSettings) -> Celery:
    celery = Celery("recording-archiver")
    config: dict[str, Any] = broker_config(settings)
    config["broker_transport_options"] |= {
        "visibility_timeout": _VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 10,  # look for messages of dead workers every 10 s ...
        "unacked_restore_throttle": 1,  # ... and not only every tenth time
        "socket_keepalive": True,
        "health_check_interval": 10,
        "queue_order_strategy": "priority",  # in the order of `task_queues`: a backfill waits for live callbacks
    }
    celery.conf.update(config)
    # Logs are configured by the entry module: Celery must not add handlers of its own.
    signals.setup_logging.connect(_keep_our_logs, weak=False)
    return celery


def create_worker(settings: WorkerSettings) -> Celery:
    """Build the consumer with its tasks. Connects to nothing."""
    celery = _create(settings)
    celery.conf.update(
        task_acks_late=True,  # a message is done when its work is done
        task_acks_on_failure_or_timeout=True,  # a failure was logged and is left to the sweep; it must not loop
        worker_prefetch_multiplier=1,  # what a busy worker has fetched, an idle one can't do
        # Threads: the work is waiting for two networks, hashing releases the GIL, and a prefork pair of idle
        # children costs more memory than all threads together. Every step is bounded in time by itself.
        worker_pool="threads",
        worker_concurrency=settings.CELERY_CONCURRENCY,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # threads can't be cancelled; twins are harmless
        worker_soft_shutdown_timeout=20,  # Heroku kills 30 s after SIGTERM
        worker_enable_soft_shutdown_on_idle=True,  # countdown retries in memory go back to the queue
        worker_enable_remote_control=False,  # nothing listens: fewer Redis round trips, and no one can send commands
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # Redis may be away for hours; the platform need not restart us
    )
    register(celery, Work.from_settings(settings))
    return celery


def create_beat(settings: BeatSettings) -> Celery:
    """Build the schedule. It may run twice or die: a sweep is harmless when repeated and can be started otherwise."""
    celery = _create(settings)
    celery.conf.beat_schedule = {
        "sweep": {
            "task": SWEEP_TASK,
            "schedule": settings.SWEEP_INTERVAL,
            # A sweep that nobody ran before the next one is due is not worth running.
            "options": {"expires": max(settings.SWEEP_INTERVAL, timedelta(seconds=10)).total_seconds()},
        },
        # Asked for every hour and made once a day: this scheduler forgets, and may have been down at the hour.
        "audit": {"task": AUDIT_TASK, "schedule": crontab(minute="17"), "options": {"expires": _HOUR_S}},
    }
    # The schedule is short and safe to repeat: no file, so that the file system may be read-only.
    celery.conf.beat_scheduler = "celery.beat:Scheduler"
    return celery


def _keep_our_logs(**_kwargs: Any) -> None:
    """Take over Celery's `setup_logging` signal: what is connected to it replaces Celery's own configuration."""
