"""A product whose worker is split in two as on ECS, with an operator, and what each part asks of S3."""

import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.local.observer import Observer
from deploy.local.processes import wait_until
from deploy.local.s3_proxy import Event, S3Proxy
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import Account, Cut, Simulator

READING_KEY, DELETING_KEY = "SK" + "1" * 32, "SK" + "2" * 32
SECRET = "secret-of-either-key"
QUEUES = {"worker.archive": "sweep,audit,notify,archive,backfill", "worker.delete": "delete"}
KEYS = {"worker.archive": READING_KEY, "worker.delete": DELETING_KEY}
ROLES = {"worker.archive": "worker", "worker.delete": "deleter", "operator": "operator"}


@dataclass
class Split:
    """A running split product; `proxies` are the ways to S3 of its parts."""

    stack: Stack
    proxies: Mapping[str, S3Proxy]

    def asked(self, process: str) -> list[Event]:
        return self.proxies[process].timeline

    def archiver(self, *arguments: str) -> int:
        """Run the command line as an operator, who has a reading key."""
        environment = self.stack.environment | {
            "AWS_ENDPOINT_URL_S3": self.proxies["operator"].url,
            "TWILIO_API_KEY": READING_KEY,
            "TWILIO_API_SECRET": SECRET,
        }
        command = [str(Path(sys.executable).with_name("archiver")), *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=False).returncode


def split_commands(proxies: Mapping[str, S3Proxy]) -> dict[str, str]:
    """Return the worker's command with its queues, key and way to S3, without the auth token."""
    worker = read_procfile(ROOT / "Procfile")["worker"]
    return {
        name: shlex.join(
            [
                *("env", "-u", "TWILIO_AUTH_TOKEN"),
                *(f"TWILIO_API_KEY={KEYS[name]}", f"TWILIO_API_SECRET={SECRET}"),
                f"AWS_ENDPOINT_URL_S3={proxies[name].url}",
            ]
        )
        + f" {worker} --queues {queues}"
        for name, queues in QUEUES.items()
    }


@contextmanager
def running_split(redis_server: RedisServer, database: int, s3_server: S3Server) -> Iterator[Split]:
    """Return a product that has archived and deleted recordings of every kind and was looked after by an operator."""
    account = Account(api_keys={READING_KEY: SECRET, DELETING_KEY: SECRET}, restricted_keys=frozenset({READING_KEY}))
    with ExitStack() as resources:
        proxies = {name: resources.enter_context(S3Proxy(s3_server.endpoint_url)) for name in ROLES}
        simulator = resources.enter_context(Simulator(accounts=[account]))
        stack = Stack(
            ("web", *QUEUES, "beat"),
            settings={
                "SWEEP_INTERVAL": "2s",
                "SWEEP_GRACE": "1s",
            },
            commands=split_commands(proxies),
            object_lock=True,
            redis_server=redis_server,
            database=database,
            s3_server=s3_server,
            simulator=simulator,
        )
        resources.enter_context(stack)
        running = Split(stack, proxies)
        _work(running)
        yield running


def _work(split: Split) -> None:
    """Archive and delete recordings of every kind, one of which fails at first, and use the command line."""
    stack, account_sid = split.stack, next(iter(split.stack.simulator.accounts))
    observer = Observer(stack.simulator, stack.s3.client(), stack.bucket)
    announced = {
        "callback_url": stack.callback_url,
        "callback_events": ("completed", "absent"),
        "date_created": datetime.now(UTC) - timedelta(minutes=5),  # of all, for one day to hold them
    }
    stack.simulator.inject(Cut(at=1000, framing="close"), times=1)
    kinds = {"call": {"seconds": 2.0}, "long": {"seconds": 300.0}, "encrypted": {"seconds": 2.0, "encrypted": True}}
    for kind, options in kinds.items():
        observer.watch(kind, stack.simulator.record(account_sid, **options, **announced).sid)
    absent = stack.simulator.record(account_sid, seconds=0.0, status="absent", error_code=16101, **announced)
    observer.watch("absent", absent.sid)

    def ended() -> bool:
        observer.look()
        return all(each.ended for each in observer.watched)

    wait_until(ended, timeout_s=20, what="archived and deleted")
    assert observer.all_right, observer.watched
    sid = observer.watched[0].recording_sid
    for command in (
        ("check", "--only", "bucket"),
        ("hold", "add", sid, "--reason", "a lawsuit"),
        ("hold", "remove", sid, "--reason", "it is over"),
        ("deletions", "pause", "--reason", "a look around"),
        ("deletions", "resume"),
        ("quarantine", "list"),
        ("show", sid),
        ("fetch", sid, "-o", "-"),
        ("audit", "--since", "1d"),
        ("sweep",),
    ):
        split.archiver(*command)
