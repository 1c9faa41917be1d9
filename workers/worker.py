"""What `celery --app workers.worker worker` runs."""

from app.alarms import Alarms
from app.logs import configure_logs, warn_of_misspelled
from app.sentry import Sentry
from app.settings import WorkerSettings, load_or_exit
from app.tracing import start_tracing
from workers.celery_app import create_worker

_settings = load_or_exit(WorkerSettings)
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL, [Alarms.of(_settings), *Sentry.of(_settings, "worker")])
warn_of_misspelled()
start_tracing(_settings, "worker")
celery = create_worker(_settings)
