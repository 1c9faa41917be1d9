"""The Twilios that one suite is held against: in memory, the simulator and, where asked for, Twilio itself."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
import requests

from deploy.local.twilio import Account as SimAccount
from deploy.local.twilio import Simulator
from tests.model.kinds import recording_of
from tests.model.recordings import Recording
from tests.model.twilio import Account, Twilio
from tests.model.variants import MAIN, SUB
from tests.model.wire import Wire

TOKEN, ANOTHER_TOKEN = "conformance-token", "another-token-of-nobody"

# Where a stand-in differs from Twilio in what the product leans on, and why it is not mended: (stand-in, rule).
EXCEPTIONS: Mapping[tuple[str, str], str] = {}

# What a recording is to be like, by the names of `record`.
KINDS = ("two channels", "one channel", "conference", "encrypted", "too short", "processing", "stored externally")


class Party(ABC):
    """An account at a Twilio, and another account that is not to be reached with its credentials."""

    session: requests.Session
    origin: str
    account_sid: str
    other_sid: str
    token: str

    def ask(
        self,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        account_sid: str = "",
        token: str = "",
    ) -> requests.Response:
        """Ask for something of the account; `path` begins behind its SID, or with a slash behind the origin."""
        url = self.origin + (path if path.startswith("/") else self.path(path, account_sid))
        auth = (self.account_sid, token or self.token)
        return self.session.request(method, url, params=query or {}, auth=auth, allow_redirects=False)

    def path(self, path: str, account_sid: str = "") -> str:
        """Return the path of something of an account."""
        return f"/2010-04-01/Accounts/{account_sid or self.account_sid}/{path}"

    @abstractmethod
    def record(self, kind: str, *, hours_ago: float = 0) -> str:
        """Let there be a recording of two seconds, and return its SID; skips the test where that can't be."""


class InMemory(Party):
    """What the model lives on."""

    origin = "https://api.twilio.com"
    account_sid, other_sid, token = MAIN, SUB, TOKEN

    def __init__(self) -> None:
        accounts = [Account(MAIN, {MAIN: {TOKEN}}), Account(SUB, {SUB: {ANOTHER_TOKEN}})]
        self._twilio = Twilio(lambda: datetime.now(UTC), accounts)
        self.session = Wire(self._twilio, lambda _call, act: act())
        self._random = Random(0)

    def record(self, kind: str, *, hours_ago: float = 0) -> str:
        ended, number = datetime.now(UTC) - timedelta(hours=hours_ago), len(self._twilio.recordings)
        options = {"completed": ended + timedelta(hours=1)} if kind == "processing" else {}
        name = "two channels" if kind == "processing" else kind
        recording: Recording = recording_of(name, number, ended, self._random, MAIN, **options)
        self._twilio.recordings[recording.sid] = recording
        return recording.sid


class Simulated(Party):
    """What the local stack and the integration tests live on."""

    other_sid, token = SUB, TOKEN

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.origin = simulator.url
        self.account_sid = next(iter(simulator.accounts))

    def record(self, kind: str, *, hours_ago: float = 0) -> str:
        options: dict[str, Any] = {
            "two channels": {},
            "one channel": {"channels": 1},
            "conference": {"kind": "conference"},
            "encrypted": {"encrypted": True},
            "too short": {"status": "absent", "error_code": 16101},
            "processing": {"status": "processing"},
            "stored externally": {"external": True},
        }[kind]
        created = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=hours_ago)
        return self._simulator.record(self.account_sid, seconds=2.0, date_created=created, **options).sid


class Real(Party):
    """A test account. Recordings are not made there but named: `CONFORMANCE_TWILIO_TWO_CHANNELS=RE…` and so on.

    `CONFORMANCE_TWILIO_DISPOSABLE` is one that a test may delete.
    """

    origin = "https://api.twilio.com"
    other_sid = SUB

    def __init__(self) -> None:
        self.session = requests.Session()
        self.account_sid = os.environ["CONFORMANCE_TWILIO_ACCOUNT_SID"]
        self.token = os.environ["CONFORMANCE_TWILIO_AUTH_TOKEN"]

    def record(self, kind: str, *, hours_ago: float = 0) -> str:
        name = f"CONFORMANCE_TWILIO_{kind.replace(' ', '_').upper()}"
        if hours_ago or name not in os.environ:
            pytest.skip(f"needs {name}")
        return os.environ[name]


@contextmanager
def opened(name: str) -> Iterator[Party]:
    """Open a Twilio by its name."""
    if name == "memory":
        yield InMemory()
    elif name == "simulator":
        main = SimAccount(auth_tokens=[TOKEN])
        other = SimAccount(sid=SUB, auth_tokens=[ANOTHER_TOKEN])
        with Simulator([main, other]) as simulator:
            party = Simulated(simulator)
            with party.session:
                yield party
    else:
        party = Real()
        with party.session:
            yield party


TWILIOS = ("memory", "simulator", *(["real"] if os.environ.get("CONFORMANCE_TWILIO_ACCOUNT_SID") else []))
