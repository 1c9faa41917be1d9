"""The endpoint of the usual tutorial: Twilio's validator, then `.delay()`."""

import os

from celery import Celery
from flask import Flask, abort, request
from twilio.request_validator import RequestValidator

celery = Celery("tutorial", broker=os.environ["REDIS_URL"])
validator = RequestValidator(os.environ["TWILIO_AUTH_TOKEN"])
url = os.environ["PUBLIC_URL"] + "/recording-status"
app = Flask("tutorial")


@celery.task(ignore_result=True)
def archive_recording(account_sid: str, recording_sid: str, recording_url: str) -> None:
    """Would archive the recording."""


@app.post("/recording-status")
def recording_status() -> tuple[str, int]:
    """Validate and enqueue."""
    if not validator.validate(url, request.form, request.headers.get("X-Twilio-Signature", "")):
        abort(403)
    archive_recording.delay(
        request.form["AccountSid"], request.form["RecordingSid"], request.form.get("RecordingUrl", "")
    )
    return "", 204
