"""The queue in memory: at least once, never in order, and as forgetful as Redis."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from app.queue import ARCHIVE_QUEUE, ARCHIVE_TASK, Publisher
from tests.model.schedule import Call, Process

Gate = Callable[[Call, Callable[[], Any]], Any]


@dataclass(eq=False, slots=True)
class Message:
    """A message as it lies in Redis: `body` is JSON. Not before `due`, and dropped after `expires`."""

    task: str
    body: str
    number: int
    due: float = 0.0
    expires: float | None = None
    retries: int = 0
    hostile: bool = False
    holder: Process | None = field(default=None, repr=False)  # in whose memory a countdown runs
    taken: float = 0.0

    def __str__(self) -> str:
        return f"{self.task} {self.body}"


class Queue:
    """All queues of the product. What a worker has taken and not acknowledged in time is handed out again."""

    def __init__(self, random: Random, visibility_s: float) -> None:
        self.waiting: list[Message] = []
        self.unacknowledged: list[Message] = []
        self.seen: list[str] = []  # every body that ever was in it
        self._visibility_s = visibility_s
        self._random = random
        self._count = 0

    def put(
        self,
        task: str,
        body: str,
        *,
        due: float = 0.0,
        expires: float | None = None,
        retries: int = 0,
        hostile: bool = False,
    ) -> Message:
        """Take a message; a `hostile` one is not the product's."""
        self._count += 1
        message = Message(task, body, self._count, due, expires, retries, hostile)
        self.waiting.append(message)
        if not hostile:
            self.seen.append(body)
        return message

    def take(self, process: Process, now: float) -> Message | None:
        """Hand out a message that is due and for anybody, or whose countdown runs in this process."""
        ready = [each for each in self.waiting if each.due <= now and each.holder in (None, process)]
        while ready:
            message = ready.pop(self._random.randrange(len(ready)))
            self.waiting.remove(message)
            if message.expires is not None and now > message.expires:
                continue
            message.holder, message.taken = process, now
            self.unacknowledged.append(message)
            return message
        return None

    def acknowledge(self, message: Message) -> None:
        """Forget a message that is done."""
        if message in self.unacknowledged:
            self.unacknowledged.remove(message)

    def restore(self, now: float) -> bool:
        """Put back what was not acknowledged in time, as kombu does: its worker may be dead, or slow. Tell if any."""
        late = [each for each in self.unacknowledged if now >= each.taken + self._visibility_s]
        for message in late:
            self.unacknowledged.remove(message)
            message.holder = None
            self.waiting.append(message)
        return bool(late)

    def release(self, process: Process, now: float) -> None:
        """Let others have the messages whose countdowns ran in a process that has died, once they are missed."""
        for message in self.waiting:
            if message.holder is process:
                message.holder, message.due = None, max(message.due, now + self._visibility_s)

    def wipe(self) -> None:
        """Lose everything, as a Redis without persistence does when it restarts."""
        self.waiting.clear()
        self.unacknowledged.clear()

    def next_due(self) -> float | None:
        """Return when something next becomes due, or comes back."""
        moments = [each.due for each in self.waiting]
        moments += [each.taken + self._visibility_s for each in self.unacknowledged]
        return min(moments, default=None)


class QueuePublisher(Publisher):
    """The product's publisher over the queue in memory: what is made of a callback is the product's own code."""

    def __init__(self, queue: Queue, gate: Gate, now: Callable[[], float]) -> None:
        self._queue = queue
        self._gate = gate
        self._now = now

    def publish(self, task: str, *, expires_s: float | None = None, **message: Any) -> None:
        """See `Publisher`."""
        body = json.dumps(message)
        expires = None if expires_s is None else self._now() + expires_s
        target = str(message.get("recording_sid", ""))
        self._gate(Call("queue", f"publish {task}", target), lambda: self._queue.put(task, body, expires=expires))

    def ping(self) -> None:
        """See `Publisher`."""


DEPTHS = {ARCHIVE_QUEUE: ARCHIVE_TASK}
