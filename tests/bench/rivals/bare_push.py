"""The least that keeps a callback: one LPUSH of the body, nothing validated."""

import os

from flask import Flask, request
from redis import Redis

client = Redis.from_url(os.environ["REDIS_URL"])
app = Flask("bare_push")


@app.post("/recording-status")
def recording_status() -> tuple[str, int]:
    """Push the body."""
    client.lpush("callbacks", request.get_data())
    return "", 204
