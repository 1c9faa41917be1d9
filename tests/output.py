"""All that the product puts out while the tests run, to be searched for secrets and phone numbers.

Kept are the logs of its processes, every message they put on a queue, the bodies they answer (metrics included), what
commands say, and what tests captured from code that ran in their own process.
"""

import base64
import json
import os
import re
from bisect import bisect
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from urllib.parse import quote, urlsplit

from deploy.local.processes import Process

PRODUCT = ("web", "worker", "beat")
SECRETS = {
    "AWS_SECRET_ACCESS_KEY",
    "NOTIFY_SECRET",
    "PRIVATE_KEY_PASSPHRASE",
    "TWILIO_API_SECRET",
    "TWILIO_AUTH_TOKEN",
    "WEBHOOK_PASSWORD",
}
LOCATIONS = ("PUBLIC_URL", "REDIS_URL")
MARK = "planted"  # in whatever tests send and no process should repeat
PHONE_NUMBER = re.compile(rb"(?<![\w.])(\+?1)?555000\d{4}(?!\w)")
MESSAGE_BODY = re.compile(r'"body": "([A-Za-z0-9+/]+=*)"')
SHORTEST = 8


class Output:
    """What was put out, and which secrets are not to be found in it. Thread-safe."""

    def __init__(self) -> None:
        self._everything = bytearray()
        self._pieces: list[tuple[int, str]] = [(0, "nowhere")]
        self._secrets = {MARK}
        self._lock = Lock()

    def keep(self, source: str, text: str | bytes) -> None:
        """Keep some output; `source` says what it is."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        with self._lock:
            self._pieces.append((len(self._everything), f"{source} {os.environ.get('PYTEST_CURRENT_TEST')}"))
            self._everything += data + b"\n"

    def keep_of(self, process: Process) -> None:
        """Keep what a process that has ended leaves behind, and learn the secrets that it was given."""
        if process.name.partition(".")[0] in PRODUCT:
            self.learn(process.env)
            self.keep(f"{process.name}.log", process.log.read_bytes())
        if process.name == "redis":  # its append-only file has every message that was ever there
            for file in process.log.parent.rglob("*.aof"):
                self.keep_queue(file)

    def keep_queue(self, file: Path) -> None:
        """Keep an append-only file, and what the messages in it hold."""
        text = file.read_text("utf-8", "surrogateescape")
        self.keep("redis", text)
        for body in MESSAGE_BODY.findall(text):
            self.keep("message", base64.b64decode(body))

    def learn(self, environ: Mapping[str, str]) -> None:
        """Learn the secrets in the environment of a process."""
        with suppress(ValueError):  # a URL or JSON that is wrong on purpose
            secrets = set(_secrets(environ))
            short = [secret for secret in secrets if len(secret) < SHORTEST]
            assert not short, f"{short} could be anything: use longer ones"
            self._secrets |= secrets

    def holds(self, text: str) -> bool:
        """Tell whether a text was put out, to be sure that one was looked for where it could be."""
        return text.encode() in self._everything

    def leaks(self) -> list[str]:
        """Say which secrets and phone numbers were put out, and where."""
        found = {
            (secret, place)
            for secret in self._secrets
            for form in _forms(secret)
            if (place := self._everything.find(form)) >= 0
        }
        found |= {(match[0].decode(), match.start()) for match in PHONE_NUMBER.finditer(self._everything)}
        return sorted({f"{secret}: {self._source(place)}" for secret, place in found})

    def _source(self, place: int) -> str:
        return self._pieces[bisect(self._pieces, place, key=lambda piece: piece[0]) - 1][1]


def _secrets(environ: Mapping[str, str]) -> Iterator[str]:
    for name in SECRETS & environ.keys():
        yield from environ[name].split(",")
    for name in LOCATIONS:
        if password := urlsplit(environ.get(name, "")).password:
            yield password
    for account in json.loads(environ.get("TWILIO_ACCOUNTS") or "[]"):
        yield from account["auth_tokens"]
        yield from account.get("shared_keys", {}).values()
        if secret := account.get("api_secret"):
            yield secret


def _forms(secret: str) -> Iterator[bytes]:
    """Yield how a secret may look when it gets out: as it is, quoted, or anywhere in base64."""
    yield secret.encode()
    yield quote(secret).encode()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode()).rstrip(b"=")
        yield encoded[(before * 4 + 2) // 3 : -1]


OUTPUT = Output()
