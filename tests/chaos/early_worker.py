"""What `celery --app tests.chaos.early_worker worker` runs: a worker on a machine whose clock is an hour ahead."""

from datetime import UTC, datetime, timedelta

import time_machine

time_machine.travel(datetime.now(UTC) + timedelta(hours=1), tick=True).start()

from workers.worker import celery  # noqa: E402 (from here on everything sees the wrong time)

__all__ = ["celery"]
