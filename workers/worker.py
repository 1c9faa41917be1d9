"""What `celery --app workers.worker worker` runs."""

from app.alarms import Alarms
from app.logs import configure_logs
from app.settings import WorkerSettings, load_or_exit
from workers.celery_app import create_worker

_settings = load_or_exit(WorkerSettings)
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL, [Alarms.of(_settings)])
celery = create_worker(_settings)
