"""How gunicorn serves the callback endpoint."""

import contextlib
import os
import random
import shutil
import tempfile
from collections import Counter
from typing import Any

from app.logs import configure_logs
from app.settings import WebSettings, load_or_exit

# Here, in the master: every mistake in the settings is listed once, and the exit code is 5.
_settings = load_or_exit(WebSettings)

bind = f"0.0.0.0:{_settings.PORT}"
workers = _settings.WEB_CONCURRENCY
# Its threads get requests that have arrived whole: no slow client takes one, however many there are.
worker_class = "app.server.BufferingWorker"
threads = 8
worker_connections = 500  # each is a file descriptor, of which there are often 1024
preload_app = True  # one copy of the code in memory, shared by the workers
timeout = 30
graceful_timeout = 20  # Heroku kills 30 s after SIGTERM
keepalive = 75  # longer than the idle timeout of an ALB (60 s)
control_socket_disable = True  # it fails on a read-only file system
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 (heartbeats must not wait for a disk)
forwarded_allow_ips = ""  # no header says anything about scheme, host or path: PUBLIC_URL does
accesslog = None  # the endpoint logs one line per callback, without query strings
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190

# A name server that doesn't answer holds a thread for 5 s or more by default: ask again after 1 s, and give up after 2.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")

# Every process writes its counters here; /metrics sums them up. Must be set before prometheus_client is imported.
_metrics_dir = tempfile.mkdtemp(prefix="recording-archiver-metrics-", dir=worker_tmp_dir)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _metrics_dir

_cores: set[int] = set()
with contextlib.suppress(AttributeError, OSError):  # macOS has no such call, and a sandbox may forbid it
    _cores = os.sched_getaffinity(0)

# gunicorn's own lines go through the same format as ours.
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL)
logconfig_dict: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "incremental": False,
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
}


def pre_fork(server: Any, worker: Any) -> None:
    """Choose the core that has the fewest processes, for all threads of one (deploy/decisions/0009)."""
    taken = Counter(getattr(other, "core", None) for other in server.WORKERS.values())  # None: from before a reload
    in_no_order = random.sample(sorted(_cores), len(_cores))  # machines that run one process each shall differ
    worker.core = min(in_no_order, key=lambda core: taken[core], default=None)


def post_fork(_server: Any, worker: Any) -> None:
    """Go to that core."""
    with contextlib.suppress(OSError):
        if worker.core is not None:
            os.sched_setaffinity(0, {worker.core})


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the gauges of a process that ended; its counters stay."""
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)


def on_exit(_server: Any) -> None:
    """Remove the counters' directory."""
    shutil.rmtree(_metrics_dir, ignore_errors=True)
