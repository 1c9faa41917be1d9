"""The queue's options, without a queue."""

import pytest
from celery import Celery

from app.queue import broker_config
from app.settings import BeatSettings, load


def test_only_redis_url_names_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Celery itself would take from the environment leads neither publisher nor consumer to another server."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere.example.com/")
    celery = Celery("test", set_as_current=False)
    celery.conf.update(broker_config(load(BeatSettings, {"REDIS_URL": "redis://queue.example.com:6379/3"})))
    connections = [celery.connection_for_read(), celery.connection_for_write()]
    assert {connection.hostname for connection in connections} == {"queue.example.com"}
