"""What `celery --app tests.integration.faulty_worker worker` runs: a worker with a bug in a step of its own."""

from app.alarms import Alarms
from app.logs import configure_logs
from app.queue import TASKS
from app.settings import WorkerSettings, load_or_exit
from workers.celery_app import create_worker
from workers.tasks import Message, Work, register


class FaultyWork(Work):
    """A worker's work, in which nobody has thought of a message without a certain field."""

    def audit(self, message: Message) -> None:
        """Fail as code with a bug does."""
        raise KeyError(message["a field that no message has"])


_settings = load_or_exit(WorkerSettings)
configure_logs(_settings.LOG_FORMAT, _settings.LOG_LEVEL, [Alarms.of(_settings)])
celery = create_worker(_settings)
for name in TASKS:
    celery.tasks.unregister(name)
register(celery, FaultyWork.from_settings(_settings))
