"""The Celery tasks: each observes, asks `next_step`, and acts.

`Work` does it; `register` puts a thin task around each of its methods. What happens after a failure is decided in
one place, `_attempt`: short retries here, long ones by the sweep.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple, Self

import structlog
from celery import Celery, Task

from app.queue import (
    ARCHIVE_TASK,
    AUDIT_TASK,
    BACKFILL_TASK,
    DELETE_TASK,
    NOTIFY_TASK,
    SWEEP_TASK,
    Publisher,
    QueueUnavailableError,
)
from app.receipt import ERROR_EXPLANATIONS, Filing, Receipt, iso, parse_iso
from app.recording import Callback, Recording, is_sid
from app.settings import WorkerSettings
from workers.absence import record_absence
from workers.archive import Archive
from workers.attempts import counted, outcome_of
from workers.daily_audit import DailyAudit
from workers.deletion import Deletion, pause_deletions
from workers.errors import (
    ArchiverError,
    ContentError,
    ForbiddenDeletionError,
    GoneError,
    JunkMessageError,
    NotReadyError,
    TemporaryError,
    UnprovenDeletionError,
)
from workers.finding import indexed
from workers.hints import Hints
from workers.metrics import ARCHIVED, ARCHIVED_BYTES, CONTENT_FAILURES, DELETED, DELETIONS, LEFT, RETRIES, stage
from workers.next_step import Observed, Step, deletion_is_due, next_step
from workers.notify import Notifier
from workers.pipeline import Pipeline
from workers.quarantine import RETRY_EVERY, Quarantine, read_quarantine, record_failure
from workers.reports import post
from workers.sweep import Sweep
from workers.transcriptions import NO_TEXTS, keep_texts, list_texts
from workers.twilio_api import TwilioApi
from workers.verification import FiledReceipt, read_receipt, verify_receipt

ENCRYPTED_WITH_ANOTHER_KEY: Final = 16107
_FIRST_RETRY_S: Final = 2.0
_LAST_RETRY_S: Final = 60.0  # countdowns sit in a worker's memory: what needs longer is left to the sweep
_REST_S: Final = 60 * 60.0  # how long frequent sweeps leave alone what only a person or another day can change

Message = Mapping[str, Any]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Work:
    """Everything a worker does, with the two sides and the queue that it works with."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive
    publisher: Publisher
    hints: Hints
    notifier: Notifier

    @classmethod
    def from_settings(cls, settings: WorkerSettings) -> Self:
        """Wire the parts; nothing connects before it is used."""
        twilio = TwilioApi(settings.accounts, connections=2 * settings.CELERY_CONCURRENCY)
        publisher, hints = Publisher(settings), Hints(settings)
        return cls(settings, twilio, Archive(settings), publisher, hints, Notifier(settings, publisher, hints))

    def archive_recording(self, message: Message, *, wake: bool = False) -> Step | None:
        """Bring one recording as far as it can go now, up to enqueueing its deletion; return what was to be done.

        None when another worker is at it. `wake`: also one that is in quarantine and rests until its daily try.
        """
        account_sid, recording_sid = _sids(message)
        callback = _callback(message)
        # The account belongs to it: a message that names another one must not keep the recording from its own.
        with self.hints.lease(f"archive:{account_sid}/{recording_sid}") as free:
            if not free:
                log.info("recording_leased")  # whoever holds it brings it as far
                return None
            filing = Filing(self.settings.ARCHIVE_PREFIX, account_sid, recording_sid, None)
            with self._quarantining(filing):
                recording, filed_under = self._look(filing)
            if recording is not None and wake:
                self._forget_early_failures(filing)
            with self._quarantining(filed_under):
                step, is_due = self._advance(filed_under, recording, callback, wake=wake)
        if is_due:
            self.publisher.publish(
                DELETE_TASK, account_sid=account_sid, recording_sid=recording_sid, day=str(filed_under.day)
            )
        return Step.NOTHING if step is Step.DELETE and not is_due else step  # gone already, which is proven

    def planned(self, account_sid: str, recording_sid: str) -> Step:
        """Return what `archive_recording` would do now, and change nothing."""
        recording, filing = self._look(Filing(self.settings.ARCHIVE_PREFIX, account_sid, recording_sid, None))
        seen = self._observe(filing, recording, None, wake=False)
        step, receipt = next_step(seen.observed), seen.filed.receipt if seen.filed else None
        if step is Step.DELETE and not self._is_to_be_deleted(filing, recording, receipt):
            return Step.NOTHING
        return step

    def _observe(
        self, filing: Filing, recording: Recording | None, callback: dict[str, str] | None, *, wake: bool
    ) -> "_Seen":
        quarantine = read_quarantine(self.archive, filing)
        now = datetime.now(UTC)
        rests = quarantine is not None and not wake and quarantine.rests(self.settings.QUARANTINE_AFTER, now)
        # A receipt that can't be read rests, too.
        filed = read_receipt(self.archive, filing) if filing.day and not rests else None
        observed = Observed(
            recording=recording,
            stored_externally=recording is not None and self.twilio.is_stored_externally(recording),
            callback_status=callback.get("RecordingStatus") if callback else None,
            receipt=filed.receipt if filed else None,
            delete_after=self.settings.TWILIO_DELETE,
            now=now,
            was_seen=recording is None and filing.day is not None,  # the index has it
            in_quarantine=quarantine is not None,
            rests=rests,
        )
        return _Seen(observed, filed, quarantine)

    def _advance(
        self, filing: Filing, recording: Recording | None, callback: dict[str, str] | None, *, wake: bool
    ) -> tuple[Step, bool]:
        """Observe, decide and act; return what was decided, and whether the source is to be deleted next."""
        observed, filed, quarantine = self._observe(filing, recording, callback, wake=wake)
        if observed.rests:
            self.hints.remember_resting(filing.recording_sid, _REST_S)
        step = next_step(observed)
        if step is Step.WAIT:
            raise NotReadyError("recording_not_ready", "Twilio has not finished the recording, or does not show it")
        if step is Step.RECORD_ABSENCE:
            record_absence(self.archive, filing, recording, callback, stored_externally=observed.stored_externally)
            log.info("absence_recorded")
        receipt = filed.receipt if filed else None
        if step is Step.ARCHIVE and recording is not None:
            receipt = self._archive(recording, callback, quarantine)
        if step is Step.RESOLVE and filed is not None:
            verify_receipt(self.archive, filed)
        if quarantine is not None and step in (Step.ARCHIVE, Step.RESOLVE, Step.RECORD_ABSENCE):
            self.archive.remove(filing.quarantine)
            log.info("quarantine_resolved", attempts=quarantine.attempts)
        if recording is not None and (filed is not None or step is Step.RECORD_ABSENCE):
            # Not beside the first receipt: that costs a request for each, and the audit brings back what there is.
            self._forget_early_failures(filing)
        if step is Step.RECORD_ABSENCE:
            self.hints.remember_documented(filing.recording_sid)
        if receipt is not None:
            self.notifier.archived(filing, receipt)  # also when whoever wrote it died before this
        can_go = receipt is not None and step in (Step.ARCHIVE, Step.RESOLVE, Step.DELETE)
        return step, can_go and self._is_to_be_deleted(filing, recording, receipt)

    def _is_to_be_deleted(self, filing: Filing, recording: Recording | None, receipt: Receipt | None) -> bool:
        if recording is None or receipt is None:
            return False
        if not deletion_is_due(receipt, self.settings.TWILIO_DELETE, datetime.now(UTC)):
            return False
        if recording.status == "deleted":  # the proof of it may be missing still
            return self.archive.head(filing.deletion) is None
        return recording.status == "completed"

    def _forget_early_failures(self, filing: Filing) -> None:
        """Remove the quarantine from when Twilio's answer could not even be filed under a day: now it can."""
        early = replace(filing, day=None).quarantine
        if self.archive.head(early) is not None:
            self.archive.remove(early)

    def _archive(self, recording: Recording, callback: dict[str, str] | None, quarantine: Quarantine | None) -> Receipt:
        resolved = {**asdict(quarantine), "resolved_at": iso(datetime.now(UTC))} if quarantine else None
        receipt = Pipeline(self.settings, self.twilio, self.archive).run(recording, callback, resolved)
        log.info("recording_archived", bytes=receipt.media.bytes, requested_channels=receipt.media.requested_channels)
        ARCHIVED.inc()
        ARCHIVED_BYTES.inc(receipt.media.bytes)
        if recording.error_code == ENCRYPTED_WITH_ANOTHER_KEY:
            log.error("encrypted_with_another_key", detail=ERROR_EXPLANATIONS[ENCRYPTED_WITH_ANOTHER_KEY])
        return receipt

    def delete_source(self, message: Message) -> None:
        """Delete one source, from the receipt in S3 and nothing else; the message only says where to look."""
        account_sid, recording_sid = _sids(message)
        filing = Filing(self.settings.ARCHIVE_PREFIX, account_sid, recording_sid, _day(message))
        with self.hints.lease(f"delete:{account_sid}/{recording_sid}") as free:
            if not free:
                return
            # Twilio and Redis may take their time: what is looked at in S3 is to be of the moment.
            listed = list_texts(self.twilio, filing)
            if listed != NO_TEXTS:
                self._filed(filing)  # nothing is kept of what has no receipt
            texts = keep_texts(self.archive, filing, listed)
            self.archive.prepare()
            # Whoever dies from here on may leave a recording that Twilio no longer lists and that has no proof.
            is_first = self.hints.remember_deletion(account_sid, recording_sid)
            try:
                filed = self._filed(filing)
                with self._pausing(filing):
                    verified = verify_receipt(self.archive, filed)
                with stage("delete"):
                    is_deleted = Deletion(self.settings, self.twilio, self.archive).delete_source(verified, texts)
            except TemporaryError:
                raise  # an earlier attempt, or this one, may have deleted it
            except ArchiverError as error:
                if is_first and not isinstance(error, UnprovenDeletionError):
                    self.hints.forget_deletion(account_sid, recording_sid)  # nothing was deleted: Twilio lists it
                if error.reason == "legal_hold":
                    self.hints.remember_resting(recording_sid, _REST_S)
                raise
            self.hints.forget_deletion(account_sid, recording_sid)
            if is_deleted:
                DELETIONS.labels(DELETED).inc()
            self.notifier.deleted(filing)  # also when whoever deleted it died before this

    def _filed(self, filing: Filing) -> FiledReceipt:
        with self._pausing(filing):
            filed = read_receipt(self.archive, filing)
        if filed is None:
            raise ForbiddenDeletionError("no_receipt", "there is no receipt under that day")
        return filed

    @contextmanager
    def _pausing(self, filing: Filing) -> Iterator[None]:
        """Stop all deletions when receipt and object disagree: what is wrong with one may be wrong with others."""
        try:
            with self._quarantining(filing):
                yield
        except ContentError as error:
            pause_deletions(self.archive, error.reason, filing.recording_sid)
            raise

    @contextmanager
    def _quarantining(self, filing: Filing) -> Iterator[None]:
        """Count a failure of the content in the recording's quarantine document, which blocks its deletion at once."""
        try:
            yield
        except ContentError as error:
            CONTENT_FAILURES.labels(error.reason).inc()
            attempts = record_failure(self.archive, filing, error, self.settings.QUARANTINE_AFTER)
            if attempts >= self.settings.QUARANTINE_AFTER:
                # Twilio is asked before the quarantine of what has no day could say that it rests.
                rest_s = _REST_S if filing.day else RETRY_EVERY.total_seconds()
                self.hints.remember_resting(filing.recording_sid, rest_s)
            self.notifier.quarantined(filing, error.reason, attempts)
            raise

    def sweep(self, _message: Message) -> None:
        """Enqueue what is not finished, and see to it that what was told is delivered."""
        self.notifier.wake()
        self.new_sweep().run()

    def new_sweep(self) -> Sweep:
        """Return a sweep of the same two sides."""
        return Sweep(self.settings, self.twilio, self.archive, self.publisher, self.hints)

    def audit(self, _message: Message) -> None:
        """Audit everything that Twilio still knows, once a day."""
        report = DailyAudit(self.settings, self.twilio, self.archive, self.publisher, self.hints).run()
        if report is not None:
            post(self.hints.board, report)
            self.notifier.audited(report)

    def deliver_notifications(self, _message: Message) -> None:
        """Send what was told to the operator's receiver."""
        self.notifier.deliver()

    def _look(self, filing: Filing) -> tuple[Recording | None, Filing]:
        """Ask Twilio for a recording; return it, or None for a 404, and where it is filed."""
        try:
            recording = self.twilio.fetch(filing.account_sid, filing.recording_sid)
        except GoneError:
            # What Twilio has forgotten may be archived: no absence is written beside a receipt.
            found = indexed(self.archive, filing.account_sid, "recording", filing.recording_sid)
            return None, next(found, filing)
        return recording, Filing.of(self.settings.ARCHIVE_PREFIX, recording)


class _Seen(NamedTuple):
    """What was observed of a recording, and the documents that this was read from."""

    observed: Observed
    filed: FiledReceipt | None
    quarantine: Quarantine | None


def register(celery: Celery, work: Work) -> None:
    """Make Celery tasks of a worker's work, under the names that messages are published with."""
    for name, act in (
        (ARCHIVE_TASK, work.archive_recording),
        (DELETE_TASK, work.delete_source),
        (SWEEP_TASK, work.sweep),
        (AUDIT_TASK, work.audit),
        (NOTIFY_TASK, work.deliver_notifications),
        (BACKFILL_TASK, work.archive_recording),
    ):
        _register(celery, name, act)


def _register(celery: Celery, name: str, act: Callable[[Message], object]) -> None:
    @celery.task(name=name, bind=True, max_retries=None, typing=False)
    def task(self: "Task[Any, Any]", /, **message: Any) -> None:
        with structlog.contextvars.bound_contextvars(task=name, **_known_sids(message)):
            _attempt(self, act, message)


def _known_sids(message: Message) -> dict[str, str]:
    kinds = (("account_sid", "AC"), ("recording_sid", "RE"))
    return {key: message[key] for key, kind in kinds if is_sid(message.get(key), kind)}


def _attempt(task: "Task[Any, Any]", act: Callable[[Message], object], message: Message) -> None:
    """Run one attempt; retry soon what may succeed soon, and leave the rest to the sweep."""
    try:
        with counted(str(task.name)):
            act(message)
    except QueueUnavailableError as error:
        log.warning("next_step_not_enqueued", detail=str(error))  # the sweep brings the recording back
    except ForbiddenDeletionError as error:
        log.info("deletion_forbidden", reason=error.reason, detail=error.detail)
    except ArchiverError as error:
        retries = task.request.retries
        outcome = outcome_of(error)  # `configuration` calls for a person, and the platform's alarms look for it
        log.warning("attempt_failed", reason=error.reason, detail=error.detail, outcome=outcome, retries=retries)
        (RETRIES if retries < error.retries else LEFT).labels(task.name, error.reason).inc()
        if retries < error.retries:
            raise task.retry(countdown=retry_delay_s(error, retries, jitter=random.random()), exc=error) from None  # noqa: S311
    except Exception as error:
        # A bug in a step of ours: its text may hold content, so only its type and place are said.
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        place = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "?"
        log.error("attempt_crashed", error=type(error).__name__, place=place)


def retry_delay_s(error: ArchiverError, retries: int, jitter: float) -> float:
    """Return how many seconds to wait before the next attempt: at most a minute, never less than was asked for.

    `jitter` is from 0 to 1, so that many recordings that failed together don't come back together. What asks for
    more than a minute is tried after a minute; Twilio refuses it again without processing it.
    """
    backoff = _FIRST_RETRY_S * 2.0**retries * (0.5 + jitter)
    return float(min(_LAST_RETRY_S, max(backoff, (error.retry_after_s or 0) * (1 + 0.1 * jitter))))


def _sids(message: Message) -> tuple[str, str]:
    account_sid, recording_sid = message.get("account_sid"), message.get("recording_sid")
    if not (is_sid(account_sid, "AC") and is_sid(recording_sid, "RE")):
        raise JunkMessageError("junk_message", "a message without the SIDs of an account and a recording")
    return str(account_sid), str(recording_sid)


def _callback(message: Message) -> dict[str, str] | None:
    """Return the callback that a message carries, or None where the sweep found the recording.

    It becomes evidence in a document: what our endpoint would not have taken is junk.
    """
    callback = message.get("callback")
    if callback is None:
        return None
    try:
        fields = dict(callback)
        received_at = parse_iso(fields.pop("received_at"))
        parsed = Callback.parse(fields.items(), received_at)
        for value in fields.values():
            value.encode()  # a lone surrogate is not Unicode: no receipt with it could be read again
        ours = parsed.fields == fields and (parsed.account_sid, parsed.recording_sid) == _sids(message)
    except (AttributeError, KeyError, TypeError, ValueError):
        ours = False
    if not ours:
        raise JunkMessageError("junk_message", "a message whose callback our endpoint would not have taken")
    return dict(callback)


def _day(message: Message) -> date:
    text = message.get("day")
    try:
        day = date.fromisoformat(str(text))
    except ValueError:
        day = None
    if day is None or str(day) != text:
        raise JunkMessageError("junk_message", "a message without a day")
    return day
