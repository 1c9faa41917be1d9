"""How gunicorn serves the callback endpoint."""

from app.settings import WebSettings, load_or_exit

# Here, in the master: every mistake in the settings is listed once, and the exit code is 5.
_settings = load_or_exit(WebSettings)

bind = f"0.0.0.0:{_settings.PORT}"
workers = _settings.WEB_CONCURRENCY
worker_class = "gthread"
threads = 8
preload_app = True  # one copy of the code in memory, shared by the workers
timeout = 30
graceful_timeout = 20  # Heroku kills 30 s after SIGTERM
keepalive = 75  # longer than the idle timeout of an ALB (60 s)
control_socket_disable = True  # fails on a read-only file system
worker_tmp_dir = "/dev/shm"  # noqa: S108 (the heartbeat file must not wait for a disk)
accesslog = None  # the endpoint logs one line per callback, without query strings
limit_request_line = 8190
limit_request_fields = 64
limit_request_field_size = 8190
