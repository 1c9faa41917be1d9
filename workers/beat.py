"""What `celery --app workers.beat beat` runs."""

from app.alarms import Alarms
from app.logs import configure_logs, warn_of_misspelled
from app.sentry import Sentry
from app.settings import BeatSettings, load_or_exit
from workers.celery_app import create_beat

_settings = load_or_exit(BeatSettings)
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL, [Alarms.of(_settings), *Sentry.of(_settings, "beat")])
warn_of_misspelled()
celery = create_beat(_settings)
