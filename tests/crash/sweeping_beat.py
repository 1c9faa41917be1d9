"""What `celery --app tests.crash.sweeping_beat beat` runs: beat that asks for sweeps alone.

The audit that it asks for at minute 17 belongs to no recording's life, and would come about in one run and not in the
next.
"""

from workers.beat import celery

del celery.conf.beat_schedule["audit"]

__all__ = ["celery"]
