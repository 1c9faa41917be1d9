"""The Celery instance, each setting with its reason."""

from functools import partial
from time import time
from typing import Any, Final

from celery import Celery, signals
from celery.schedules import crontab

from app.queue import AUDIT_TASK, PUBLISHED_AT, QUEUES, SWEEP_TASK, broker_config, redis_client
from app.settings import BeatSettings, CommonSettings, WorkerSettings, refuse_to_start
from workers.drain import Drain
from workers.exporter import serve
from workers.media import TOTAL_LIMIT_S
from workers.pulse import BeatPulse, WorkerPulse
from workers.queue_log import QueueLog
from workers.tasks import Work, register
from workers.watchdog import Limits, Watchdog

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
        "socket_connect_timeout": 5,
        # Without it the event loop waits for ever on a connection that is dead and looks alive. Ten times BRPOP's own.
        "socket_timeout": 10,
        "health_check_interval": 10,
        "queue_order_strategy": "priority",  # in the order of `task_queues`: a backfill waits for live callbacks
    }
    celery.conf.update(config)
    # Logs are configured by the entry module: Celery must not add handlers of its own.
    signals.setup_logging.connect(_keep_our_logs, weak=False)
    signals.before_task_publish.connect(_note_time, weak=False)
    return celery


def create_worker(settings: WorkerSettings, limits: Limits | None = None) -> Celery:
    """Build the consumer with its tasks and what watches over it. Connects to nothing."""
    celery = _create(settings)
    celery.conf.update(
        task_acks_late=True,  # a message is done when its work is done
        task_acks_on_failure_or_timeout=True,  # a failure was logged and is left to the sweep; it must not loop
        worker_prefetch_multiplier=1,  # what a busy worker has fetched, an idle one can't do
        worker_consumer="workers.consumer:CarefulConsumer",  # Celery's own logs junk, and may die of it for ever
        # Threads: the work is waiting for two networks, hashing releases the GIL, and a prefork pair of idle
        # children costs more memory than all threads together. Every step is bounded in time by itself.
        worker_pool="threads",
        worker_concurrency=settings.CELERY_CONCURRENCY,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # threads can't be cancelled; twins are harmless
        worker_enable_remote_control=False,  # nothing listens: fewer Redis round trips, and no one can send commands
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # Redis may be away for hours; the platform need not restart us
    )
    work = Work.from_settings(settings)
    register(celery, work)
    Drain(work.hints.release_all).install()
    limits = limits or Limits()
    pulse = WorkerPulse(partial(redis_client, settings, once=True), settings.CELERY_CONCURRENCY)
    celery.steps["consumer"].add(pulse.step(limits.every_s / 2))
    watchdog = Watchdog("worker", pulse.complaint, is_busy=pulse.is_busy, limits=limits)
    signals.celeryd_init.connect(_refuse_unknown_queues, weak=False)
    signals.worker_init.connect(lambda **_: watchdog.start(), weak=False)
    signals.worker_init.connect(lambda **_: serve(settings), weak=False)
    return celery


def create_beat(settings: BeatSettings, limits: Limits | None = None) -> Celery:
    """Build the schedule. It may run twice or die: a sweep is harmless when repeated and can be started otherwise."""
    celery = _create(settings)
    celery.conf.beat_schedule = {
        "sweep": {
            "task": SWEEP_TASK,
            "schedule": settings.SWEEP_INTERVAL,
            # A sweep that nobody ran for long is not worth running. The hour is for workers whose clock is ahead: they
            # must not drop every sweep. What piles up meanwhile costs nothing, since one sweep runs at a time.
            "options": {"expires": settings.SWEEP_INTERVAL.total_seconds() + _HOUR_S},
        },
        # Asked for every hour and made once a day: this scheduler forgets, and may have been down at the hour.
        "audit": {"task": AUDIT_TASK, "schedule": crontab(minute="17"), "options": {"expires": _HOUR_S}},
    }
    limits = limits or Limits()
    connect = partial(redis_client, settings, once=True)
    pulse = BeatPulse(connect, settings.SWEEP_INTERVAL)
    # The schedule is short and safe to repeat: no file, so that the file system may be read-only.
    celery.conf.beat_scheduler = pulse.scheduler()
    celery.conf.beat_max_loop_interval = limits.every_s  # it shows its pulse as often as it is looked for
    watchdog, queue_log = Watchdog("beat", pulse.complaint, limits=limits), QueueLog(connect)
    signals.beat_init.connect(lambda **_: watchdog.start(), weak=False)
    signals.beat_init.connect(lambda **_: queue_log.start(), weak=False)
    return celery


def _refuse_unknown_queues(options: dict[str, Any], **_kwargs: Any) -> None:
    """End the process when its command line names a queue that is none of ours.

    Celery would make one of that name: the worker would be well and take nothing, for ever. A queue left out by a wrong
    name would be served.
    """
    mistakes = [
        f"--{option.replace('_', '-')}: names a queue that does not exist; there are {', '.join(QUEUES)}"
        for option in ("queues", "exclude_queues")
        if set(options.get(option) or ()) - set(QUEUES)
    ]
    if mistakes:
        refuse_to_start(mistakes)


def _note_time(headers: dict[str, Any], **_kwargs: Any) -> None:
    """Let every message say when it was put on the queue, also those of the schedule and of retries."""
    headers[PUBLISHED_AT] = time()


def _keep_our_logs(**_kwargs: Any) -> None:
    """Take over Celery's `setup_logging` signal: what is connected to it replaces Celery's own configuration."""
