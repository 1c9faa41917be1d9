"""What `celery --app tests.integration.hasty_worker worker` runs: a worker whose watchdog waits for seconds only."""

from app.alarms import Alarms
from app.logs import configure_logs
from app.settings import WorkerSettings, load_or_exit
from workers.celery_app import create_worker
from workers.watchdog import Limits

_settings = load_or_exit(WorkerSettings)
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL, [Alarms.of(_settings)])
celery = create_worker(_settings, Limits(every_s=0.5, complain_s=2.0, stuck_s=5.0, stuck_while_busy_s=6.0))
