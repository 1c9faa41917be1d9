"""What `celery --app workers.worker worker` runs."""

from app.logs import configure_logs
from app.settings import WorkerSettings, load_or_exit
from workers.celery_app import create_worker

_settings = load_or_exit(WorkerSettings)
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL)
celery = create_worker(_settings)
