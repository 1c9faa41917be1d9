"""Everything at once: Twilio, the bucket, the queue and the product's processes, in memory and on the virtual clock.

A world does nothing by itself. A history, a matrix or a state machine says who goes on, what fails and who dies.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

import structlog
import time_machine
from botocore.exceptions import ClientError
from celery import Celery

from app.queue import SWEEP_TASK
from tests.model.broker import Message, Queue, QueuePublisher
from tests.model.client import Client, Late
from tests.model.clock import Clock
from tests.model.faults import DAMAGE, Fault, Moment
from tests.model.hints import Hinted, MemoryHints
from tests.model.judge import Judge
from tests.model.recordings import Recording
from tests.model.s3 import S3, s3_error
from tests.model.schedule import Call, CrashedError, Process, Strand, bury, this_strand
from tests.model.twilio import Account, Twilio
from tests.model.variants import API_KEY, API_SECRET, MAIN, PART_BYTES, PLAIN, SUB, TOKENS, Variant
from tests.model.web import call_back
from tests.model.wire import Wire
from workers.archive import Archive
from workers.celery_app import create_worker
from workers.hints import LEASE_S, Hints
from workers.notify import Notifier
from workers.tasks import Work, register
from workers.twilio_api import TwilioApi

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SKEW_LIMIT_S = 15 * 60  # S3 refuses what is signed with a clock that is further off
SWEEP_EVERY_S = 5 * 60.0
LONGEST_COUNTDOWN_S = 60.0

Plan = Callable[[Call, Strand], Fault | None]


@dataclass(slots=True)
class Entry:
    """A line of the history: a call, who made it, what struck it, and how it ended."""

    at: float
    who: str
    what: Call | str
    fault: Fault | None = None
    outcome: str = ""

    def __str__(self) -> str:
        struck = f"   <-- {self.fault}" if self.fault else ""
        ended = f" -> {self.outcome}" if self.outcome else ""
        at = datetime.fromtimestamp(self.at, UTC)
        return f"{at:%d %H:%M:%S}.{at.microsecond // 1000:03} {self.who:14} {self.what}{ended}{struck}"


class _RetryError(Exception):
    """What `task.retry` gives its task to raise: the message has been put back."""


class _RejectedError(Exception):
    """The message of a retry was not taken: Celery rejects the task, and the message is gone."""


@dataclass(slots=True)
class _Request:
    retries: int


class _Task:
    """What a Celery task is to itself: it knows how often it was retried, and can ask for one retry more."""

    def __init__(self, world: World, process: Process, message: Message) -> None:
        self.name = message.task
        self.request = _Request(message.retries)
        self._world = world
        self._process = process
        self._message = message

    def retry(self, *, countdown: float, exc: Exception) -> Exception:
        """Put the message back for later, and return what the task is to raise."""
        self._world.judge.read("an error", f"{exc!s} {exc!r}")
        if not 0 < countdown <= LONGEST_COUNTDOWN_S:
            self._world.judge.blame(f"a countdown of {countdown} s, in one worker's memory")
        try:
            self._world.gate(Call("queue", f"retry {self._message.task}"), lambda: self._put(countdown))
        except Exception as error:
            raise _RejectedError from error
        return _RetryError()

    def _put(self, countdown: float) -> None:
        again = self._world.queue.put(
            self._message.task,
            self._message.body,
            due=self._world.clock.now + countdown,
            expires=self._message.expires,
            retries=self._message.retries + 1,
            hostile=self._message.hostile,
        )
        again.holder = self._process


class _Tasks(dict[str, Callable[..., None]]):
    """Takes tasks as a Celery application does; what Celery would do with them the world does."""

    def task(self, *, name: str, **_options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def take(act: Callable[..., None]) -> Callable[..., None]:
            self[name] = act
            return act

        return take


@cache
def _worker_configuration() -> Any:
    """Return what Celery is told: when messages are acknowledged and come back is the product's own choice."""
    nobody = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    with patch.dict(os.environ, {**nobody, "AWS_EC2_METADATA_DISABLED": "true"}):  # boto3 looks for credentials
        return create_worker(PLAIN.settings).conf


class World:
    """All parts of one history. `random` decides whatever is not decided otherwise; the same seed is the same world."""

    def __init__(
        self,
        shown: time_machine.Traveller,
        seed: int | str,
        variant: Variant = PLAIN,
        *,
        slots: int = 2,
        page_size: int = 1000,
    ) -> None:
        self.random = random.Random(seed)
        random.seed(str(seed))  # the jitter of the product's retries
        self.variant = variant
        self.slots = slots
        self.clock = Clock(shown)
        self.judge = Judge(variant, self.clock.moment, lambda what: self.note(f"VIOLATION {what}"))
        self.s3 = S3(self.clock.moment, replace(variant.traits, page_size=page_size), self.judge.changed)
        self.twilio = Twilio(self.clock.moment, [Account(MAIN), Account(SUB)], page_size)
        conf = _worker_configuration()
        self._late = bool(conf.task_acks_late)
        self.visibility_s = float(conf.broker_transport_options["visibility_timeout"])
        self.queue = Queue(self.random, self.visibility_s)
        self.hinted = Hinted()
        self.judge.s3, self.judge.twilio = self.s3, self.twilio
        self.processes: list[Process] = []
        self.web = Process("web")
        self.trace: list[Entry] = []
        self.plan: Plan = lambda _call, _strand: None
        self._count = self._started = 0
        self.rotate()

    # What is always there

    def rotate(self, tokens: Mapping[str, list[str]] = TOKENS) -> None:
        """Let Twilio accept these tokens, and the API key, from now on."""
        for sid, account in self.twilio.accounts.items():
            account.accepts = {sid: set(tokens[sid])}
        self.twilio.accounts[MAIN].accepts[API_KEY] = {API_SECRET}

    def note(self, what: str) -> None:
        """Write a line into the history that is no call."""
        self.trace.append(Entry(self.clock.now, "", what))

    def add(self, recording: Recording) -> None:
        """Let there be a recording at Twilio."""
        self.twilio.recordings[recording.sid] = recording

    def start(self, name: str, ahead_s: float = 0.0) -> Process:
        """Start a worker."""
        process = Process(name, ahead_s)
        settings = self.variant.settings
        now = lambda: self.clock.now  # noqa: E731 (a clock is one expression)
        publisher = QueuePublisher(self.queue, self.gate, now)
        hints = cast(Hints, MemoryHints(self.hinted, self.queue, self.gate, now))
        work = Work(
            settings,
            TwilioApi(settings.accounts, session=Wire(self.twilio, self.gate), pause=self.pause),
            Archive(settings, part_bytes=PART_BYTES, client=cast("S3Client", Client(self.s3, self.gate)), beside=Late),
            publisher,
            hints,
            Notifier(settings, publisher, hints),
        )
        process.parts = _Tasks()
        register(cast(Celery, process.parts), work)
        self.processes.append(process)
        return process

    # The gate

    def gate(self, call: Call, act: Callable[[], Any]) -> Any:
        """Carry a call out when the scheduler says so, and let happen to it what the plan says."""
        strand = this_strand()
        if strand is None:
            return act()
        strand.stand(call)
        self._count += 1
        call.number = self._count
        strand.calls.append(call)
        self.judge.began(call)
        fault = self.plan(call, strand)
        entry = Entry(self.clock.now, strand.name, call, fault)
        self.trace.append(entry)
        before = fault is not None and fault.moment is Moment.BEFORE
        if fault is not None and before and fault.is_crash:
            strand.crash()
        if call.operation.startswith("DELETE"):
            self.judge.deleting(strand, call)
        if call.operation == "GET media" and fault is not None and fault.name in ("400", "ends early"):
            self._recording_of(call).wronged = True  # which looks like a fault of the content
        try:
            if fault is None or not before:
                answer = self._carry_out(call, strand, act)
            if fault is not None:
                answer = self._struck(fault, call, None if before else answer, act)
            if isinstance(answer, Exception):
                raise answer
        except CrashedError:
            raise
        except Exception as error:
            entry.outcome = _described(error)
            if call.operation == "abort_multipart_upload":
                strand.uploads.clear()  # it has tried
            raise
        entry.outcome = str(getattr(answer, "status", ""))
        if call.operation == "create_multipart_upload":
            strand.uploads.add(answer["UploadId"])
        elif call.operation == "GET resource":
            strand.shown = answer.status
        return answer

    def _carry_out(self, call: Call, strand: Strand, act: Callable[[], Any]) -> Any:
        """Return what is answered, an error included."""
        if call.service == "s3" and abs(strand.process.ahead_s) > SKEW_LIMIT_S:
            return s3_error(403, "RequestTimeTooSkewed", call.operation)
        if call.operation in ("head_object", "get_object"):
            strand.reads[call.target] = call.number
        try:
            answer = act()
        except ClientError as error:
            return error
        if call.operation == "GET transcriptions" and answer.status == 200:
            strand.texts = {text["sid"] for text in json.loads(answer.body)["transcriptions"] if _is_finished(text)}
        if call.operation == "GET media" and answer.status == 200:
            recording = self._recording_of(call)
            if recording.damage:
                recording.wronged = True
                return DAMAGE[recording.damage.pop(0)](answer)
        return answer

    def _recording_of(self, call: Call) -> Recording:
        return self.twilio.recordings[call.target.rpartition("/")[2].partition(".")[0]]

    @staticmethod
    def _struck(fault: Fault, call: Call, answer: Any, act: Callable[[], Any]) -> Any:
        if fault.strike is None:
            strand = this_strand()
            assert strand is not None
            strand.crash()
        if fault.moment is Moment.TWICE:
            return act()
        if fault.moment is Moment.ANSWER and isinstance(answer, Exception):
            return answer
        assert fault.strike is not None
        return fault.strike(call, answer)

    def pause(self, seconds: float) -> None:
        """Let the calling strand wait on the virtual clock."""
        strand = this_strand()
        if strand is not None:
            strand.stand(None, self.clock.now + seconds)

    # Who goes on

    def pull(self, process: Process) -> Strand | None:
        """Let a worker with a free slot take a message and begin with it."""
        if not process.alive or process.stopped_until > self.clock.now or len(process.strands) >= self.slots:
            return None
        message = self.queue.take(process, self.clock.now)
        if message is None:
            return None
        return self._begin(process, message.task, lambda: self._work(process, message))

    def _begin(self, process: Process, name: str, act: Callable[[], object]) -> Strand:
        self._started += 1
        strand = Strand(f"{process.name}.{self._started}", process, act)
        self.trace.append(Entry(self.clock.now, strand.name, f"begins {name}"))
        self.go_on(strand)
        return strand

    def _work(self, process: Process, message: Message) -> None:
        if not self._late:
            self.queue.acknowledge(message)
        with suppress(_RetryError, _RejectedError):
            process.parts[message.task](_Task(self, process, message), **json.loads(message.body))
        strand = this_strand()
        if strand is not None and strand.uploads & self.s3.uploads.keys():
            self.judge.blame(f"{strand.name} has left an upload behind")
        self.queue.acknowledge(message)

    def call_back(
        self, fields: Mapping[str, str], token: str | None, signed: Mapping[str, str] | None = None
    ) -> Strand:
        """Let Twilio (or somebody else) send a callback."""
        publisher = QueuePublisher(self.queue, self.gate, lambda: self.clock.now)
        return self._begin(self.web, "a callback", lambda: call_back(publisher, fields, token, signed))

    def runnable(self) -> list[Strand]:
        """Return the strands that can go on now."""
        now = self.clock.now
        return [
            strand
            for process in (self.web, *self.processes)
            if process.stopped_until <= now
            for strand in process.strands
            if strand.wakes_at <= now
        ]

    def go_on(self, strand: Strand) -> None:
        """Let a strand go on to its next call. If it dies in it, its process dies with it."""
        process = strand.process
        self.clock.pass_(0.001 + 0.05 * self.random.random())
        self.clock.show(process.ahead_s)
        strand.switch()
        if not process.alive:
            self.kill(process)

    def kill(self, process: Process) -> None:
        """Let a process be dead, with all that it was doing."""
        bury(process)
        self.note(f"{process.name} is dead")
        self.queue.release(process, self.clock.now)
        for work, (token, holder, _) in self.hinted.leases.items():
            if holder is process:
                self.hinted.leases[work] = (token, None, self.clock.now + LEASE_S)
        if process is self.web:
            self.web = Process("web")
        else:
            self.processes.remove(process)

    def beat(self) -> None:
        """Let beat ask for a sweep."""
        self.queue.put(SWEEP_TASK, "{}", expires=self.clock.now + SWEEP_EVERY_S)


def _is_finished(text: Mapping[str, Any]) -> bool:
    return text["status"] in ("completed", "failed")


def _described(error: Exception) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__


@contextmanager
def judged_logs(judge: Judge) -> Iterator[None]:
    """Show every line that is logged to a judge, and write none."""

    def show(_logger: Any, level: str, event: dict[str, Any]) -> dict[str, Any]:
        judge.logged({**event, "level": level})
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]  # the very list that loggers hold which are in use already
    before = processors.copy()
    processors[:] = [structlog.contextvars.merge_contextvars, show]
    structlog.configure(processors=processors)
    try:
        yield
    finally:
        processors[:] = before
        structlog.configure(processors=processors)
