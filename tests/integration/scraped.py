"""A product that is scraped, and that is told when to sweep and to audit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis

from app.queue import AUDIT_TASK, KEY_PREFIX, SWEEP_TASK, Publisher
from app.settings import CommonSettings, load
from deploy.local.processes import reserve_port, wait_until
from deploy.local.s3_proxy import S3Proxy
from deploy.local.servers import ROOT, RedisServer, S3Server
from deploy.local.stack import Stack, read_procfile
from deploy.local.twilio import Account, SimRecording, Simulator
from tests.integration.bucket import Bucket
from tests.integration.rules import Key, Target, look

MAIN = Account(sid="AC" + "a1" * 16, auth_tokens=["main-token-one"])
SUB = Account(sid="AC" + "b2" * 16, auth_tokens=["sub-token"], parent=MAIN.sid)
WORKER = read_procfile(ROOT / "Procfile")["worker"]


class Service:
    """A product that is scraped, and that is told when to sweep and to audit."""

    def __init__(self, stack: Stack, s3_proxy: S3Proxy, worker_port: int) -> None:
        self.stack, self.s3_proxy = stack, s3_proxy
        self.simulator = stack.simulator
        self.bucket = Bucket(stack.s3.client(), stack.bucket)
        self.targets = (Target("archiver-web", stack.port), Target("archiver-worker", worker_port))
        self.publisher = Publisher(load(CommonSettings, {"REDIS_URL": stack.redis_url}))

    def look(self) -> dict[Key, float]:
        """Look at every endpoint as Prometheus would."""
        return look(self.targets)

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of what all endpoints show under a name, with these labels."""
        return sum(
            value for (key, has), value in self.look().items() if key == name and set(labels.items()) <= set(has)
        )

    def wait_to_count(self, name: str, more: float = 1, **labels: str) -> Callable[[], None]:
        """Return what waits until there is so much more of something than now."""
        before = self.value(name, **labels)
        return lambda: (
            wait_until(lambda: self.value(name, **labels) >= before + more, timeout_s=40, what=f"{name} {labels}")
            and None
        )

    def work(self, task: str, **message: Any) -> None:
        """Let the worker do something, and wait until it has been tried."""
        counted = self.wait_to_count("archiver_attempts_total", task=task)
        self.publisher.publish(task, **message)
        counted()

    def sweep(self, *, everything: bool = False) -> None:
        """Let the worker sweep: what is recent, or also everything."""
        if everything:
            self.forget("sweep")
        self.work(SWEEP_TASK)

    def audit(self) -> None:
        """Let the worker audit, as on another day."""
        pages = self.bucket.client.list_objects_v2(Bucket=self.bucket.name, Prefix="reports/")
        for item in pages.get("Contents", ()):
            self.bucket.client.delete_object(Bucket=self.bucket.name, Key=item["Key"])
        self.work(AUDIT_TASK)

    def forget(self, chore: str) -> None:
        """Let what is done once a day be due."""
        with Redis.from_url(self.stack.redis_url, decode_responses=True) as client:
            for key in client.keys(f"{KEY_PREFIX}*{chore}*"):
                client.delete(key)

    def record(self, **call: Any) -> SimRecording:
        """Let a call be recorded; nobody is called back."""
        return self.simulator.record(MAIN.sid, **{"seconds": 2.0, **call})

    def call(self, **call: Any) -> SimRecording:
        """Let a call be recorded and called back."""
        return self.record(**call, callback_url=self.stack.callback_url)

    def archive(self) -> SimRecording:
        """Let a call be recorded, archived and deleted."""
        recording = self.call()
        self.bucket.wait_for("deletions", recording)
        return recording

    def begin(self) -> dict[Key, float]:
        """Do everything once, and look."""
        self.archive()
        self.sweep(everything=True)
        self.audit()
        return self.look()


@contextmanager
def service(
    redis_server: RedisServer, s3_server: S3Server, *, database: int = 0, worker: str = WORKER, **settings: str | None
) -> Iterator[Service]:
    """Run a product with one account, though Twilio knows a second one where `settings` say so."""
    with (
        Simulator(accounts=[MAIN, SUB] if "TWILIO_ACCOUNTS" in settings else [MAIN]) as simulator,
        S3Proxy(s3_server.endpoint_url) as s3_proxy,
        reserve_port() as port,
        Stack(
            ("web", "worker"),
            settings={"METRICS_PORT": str(port), "AWS_ENDPOINT_URL_S3": s3_proxy.url, "SWEEP_GRACE": "0s", **settings},
            commands={"worker": worker},
            redis_server=redis_server,
            database=database,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        yield Service(stack, s3_proxy, port)
