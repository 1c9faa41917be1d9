"""Archive one recording as a worker does, from the first request to the receipt: ours.py ACCOUNT RECORDING."""

import sys

from app.settings import WorkerSettings, load
from workers.archive import Archive
from workers.pipeline import Pipeline
from workers.twilio_api import TwilioApi

settings = load(WorkerSettings)
twilio = TwilioApi(settings.accounts)
Pipeline(settings, twilio, Archive(settings)).run(twilio.fetch(sys.argv[1], sys.argv[2]), None)
