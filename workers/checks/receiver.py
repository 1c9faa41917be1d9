"""Check the receiver of notifications: it takes a trial, and refuses one that is signed by nobody."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from secrets import token_hex
from typing import Final

from app.receipt import iso
from app.settings import WorkerSettings
from workers.checks.results import Result, amber, green, red, skipped
from workers.errors import TemporaryError
from workers.webhook import Receiver, ReceiverRefusedError

_FORGED: Final = f"v1,{'A' * 43}="


def check_receiver(settings: WorkerSettings) -> Iterator[Result]:
    """Send a notification of the type `archiver.check` as it should be, and one with a wrong signature."""
    receiver = Receiver.of(settings)
    if receiver is None:
        yield skipped("receiver", "notifications are off (NOTIFY_URL is unset)")
        return
    try:
        receiver.post(*_trial())
    except ReceiverRefusedError as error:
        mend = "look at what NOTIFY_URL names, and whether it knows NOTIFY_SECRET; it has to answer 2xx"
        yield red("receiver", error.detail, mend)
        return
    except TemporaryError as error:
        yield red("receiver", error.detail, "let this machine reach NOTIFY_URL, and its server answer within 5 s")
        return
    yield green("receiver", "a signed notification was taken")
    try:
        receiver.post(*_trial(), signature=_FORGED)
    except ReceiverRefusedError:
        yield green("forged notifications", "refused")
    except TemporaryError as error:
        yield skipped("forged notifications", error.detail)
    else:
        mend = "let the receiver verify webhook-signature, with a library of standardwebhooks.com"
        yield amber("forged notifications", "one with a wrong signature was taken, too", mend)


def _trial() -> tuple[str, str]:
    body = {"type": "archiver.check", "timestamp": iso(datetime.now(UTC)), "data": {}}
    return f"msg_{token_hex(16)}", json.dumps(body, separators=(",", ":"))
