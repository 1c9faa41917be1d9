"""Be Twilio for one process: accounts, recordings, their media, the REST API and the callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from types import TracebackType
from typing import Any, Self

from deploy.local.injections import Injection, Injections

from . import api, representations
from .accounts import Account, SimCall, new_sid
from .callbacks import Callback, Key
from .dispatcher import Dispatcher
from .errors import ApiError, Shape
from .exchanges import CallbackAnswer
from .faults import Fault
from .journal import Event, Journal, Served
from .messages import Body, Request, Response
from .recordings import LIVE, SimRecording, StatusCallback, new_recording
from .server import Server
from .state import Store
from .targets import Match, Target


def utc_now() -> datetime:
    """Return the time in whole seconds, as Twilio's dates have them."""
    return datetime.now(UTC).replace(microsecond=0)


class Simulator:
    """A Twilio on loopback, in threads of the calling process; use it in a `with` statement.

    `clock` returns aware UTC times and decides dates, the 40 days of soft-deleted metadata and
    `media_ready_after`. `error_shape` forces one of Twilio's error shapes on every answer. `numbers`, shared with an
    `S3Proxy`, give the events of both one order. Everything may be called from any thread.
    """

    def __init__(
        self,
        accounts: Iterable[Account] = (),
        port: int = 0,
        *,
        clock: Callable[[], datetime] = utc_now,
        error_shape: Shape | None = None,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.store = Store(list(accounts) or [Account()], clock)
        self.journal = Journal(clock, numbers or count(1))
        self.error_shape = error_shape
        self.started_at = clock()
        self._injections: Injections[Fault, Target] = Injections()
        self._dispatcher = Dispatcher(self._announce, self._injections)
        self._server = Server(self, port)

    @property
    def url(self) -> str:
        """Return the origin, such as http://127.0.0.1:8080 (the port is bound from the start)."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def connections(self) -> int:
        """Return how many connections were made until now."""
        return self._server.accepted

    def start(self) -> Self:
        """Serve from threads of this process."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Release what faults hold up, break all connections and stop."""
        self._dispatcher.stop()
        self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Truth

    @property
    def accounts(self) -> dict[str, Account]:
        """Return the accounts by SID."""
        return dict(self.store.accounts)

    @property
    def recordings(self) -> dict[str, SimRecording]:
        """Return every recording by SID, deleted and forgotten ones too."""
        with self.store.lock:
            return dict(self.store.recordings)

    @property
    def timeline(self) -> list[Event]:
        """Return all that was asked, answered and called back until now."""
        return self.journal.events

    @property
    def served(self) -> list[Served]:
        """Return the media downloads that were sent to the last byte."""
        return self.journal.served

    def media(self, recording_sid: str, requested_channels: int | None = None, format: str = "wav") -> Body:
        """Return the media as it is served without faults (also after a deletion). Raises ApiError."""
        return self.recordings[recording_sid].media(requested_channels, format)

    def media_bytes(self, recording_sid: str, requested_channels: int | None = None, format: str = "wav") -> bytes:
        """Return the bytes of `media`."""
        return self.media(recording_sid, requested_channels, format).read()

    def media_sha256(self, recording_sid: str, requested_channels: int | None = None, format: str = "wav") -> str:
        """Return the SHA-256 of `media`, lower-case hex."""
        return self.media(recording_sid, requested_channels, format).sha256

    # What happens at Twilio

    def place_call(self, account_sid: str, *, conference: bool = False, seconds: float = 10.0) -> SimCall:
        """Have a call in progress; recordings of it become `seconds` long, however soon they are stopped."""
        conference_sid = new_sid("CF") if conference else None
        call = SimCall(account_sid, new_sid("CA"), conference_sid, seconds)
        with self.store.lock:
            self.store.calls[call.sid] = call
        return call

    def end_call(self, call: SimCall) -> None:
        """Hang up: what is being recorded completes."""
        call.live = False
        for recording in self.recordings.values():
            parents = (recording.call_sid, recording.conference_sid)
            if recording.status in LIVE and (call.sid in parents or call.conference_sid in parents):
                self.finish(recording)

    def record(
        self,
        account_sid: str,
        kind: str = "call",
        seconds: float = 10.0,
        channels: int | None = None,
        *,
        callback_url: str | None = None,
        callback_method: str = "POST",
        callback_events: Sequence[str] = ("completed",),
        callback_public_url: str | None = None,
        callback_fields: Mapping[str, str] | None = None,
        **options: Any,
    ) -> SimRecording:
        """Let there be a recording, completed unless `status` says otherwise (`finish` ends it later).

        `kind` is call, conference, outbound, trunk, record_verb, start_call, start_conference, or a source of
        your own. Two channels are stored unless `channels` is 1 (or the kind is record_verb). With a
        `callback_url` the `callback_events` are announced from a background thread (POST, GET or JSON), signed
        for `callback_public_url` where that differs, with `callback_fields` beside the documented ones.

        Options: `status`, `error_code`, `encrypted`, `date_created` (aware UTC; default such that it ended now, or now
        where it has not ended), `start_time` (default `date_created`), `size_bytes` (of the WAV as stored, instead of
        `seconds`), `call` (a SimCall), and the fields of SimRecording: sid, call_sid, conference_sid, track,
        created_channels, external, media_ready_after, framing, placeholder_sizes, resource_status. A `failed`
        recording is `absent` to the REST API.
        """
        if callback_url:
            events = tuple(callback_events)
            options["callback"] = StatusCallback(
                callback_url, callback_method, events, callback_public_url, callback_fields or {}
            )
        account = self.store.accounts[account_sid]
        recording = new_recording(account, self.store.clock(), kind, seconds, channels, **options)
        self.store.add(recording)
        self._dispatcher.announce(recording, recording.status)
        return recording

    def finish(self, recording: SimRecording, status: str = "completed", error_code: int | None = None) -> None:
        """End a recording that is live or being processed, and announce it."""
        self.store.complete(recording, status, error_code)
        self._dispatcher.announce(recording, status)

    def delete(self, recording: SimRecording) -> None:
        """Delete a recording behind everybody's back. Raises ApiError as the DELETE would be answered."""
        self.store.delete(recording)

    def add_transcription(
        self, recording: SimRecording, status: str = "completed", text: str | None = "Hello.", **values: Any
    ) -> dict[str, Any]:
        """Transcribe a recording; the resource that is returned may be changed in place to let it progress."""
        made = representations.transcription(recording, status, text, self.store.clock()) | values
        recording.transcriptions.append(made)
        return made

    def add_add_on_result(
        self,
        recording: SimRecording,
        status: str = "completed",
        data: Sequence[Mapping[str, Any]] = (),
        **values: Any,
    ) -> dict[str, Any]:
        """Add the result of an add-on, with one payload per item of `data`; it may be changed in place."""
        made = representations.add_on_result(recording, status, data, self.store.clock()) | values
        recording.add_on_results.append(made)
        return made

    def promote_token(self, account: Account | str, *, keep_old: bool = False) -> None:
        """Promote the secondary auth token of an account (see Account.promote_token)."""
        known = account if isinstance(account, Account) else self.store.accounts[account]
        known.promote_token(keep_old=keep_old)

    # Faults

    def inject(
        self,
        fault: Fault,
        recording_sid: str | None = None,
        match: Match | None = None,
        times: int | None = 1,
        skip: int = 0,
        when: Callable[[], bool] | None = None,
    ) -> Injection[Fault, Target]:
        """Let a fault meet the next `times` matching requests (None: all) after the first `skip` of them.

        `when` is asked about each of these; those that it denies pass.
        """
        meant = match or Match()

        def fits(target: Target) -> bool:
            return recording_sid in (None, target.recording_sid) and meant.fits(target, fault.endpoint)

        return self._injections.add(Injection(fault, fits, times, skip, when))

    def clear_faults(self) -> None:
        """Remove every fault and let go of whatever they hold up."""
        self._injections.clear()

    def respond(self, request: Request) -> tuple[Response, list[Fault]]:
        """Answer a request, with the faults that it meets."""
        faults = self._injections.take(request)
        try:
            response = next(filter(None, (fault.instead(request) for fault in faults)), None)
            response = response or api.answer(request)
        except ApiError as error:
            response = Response.error(error, request.error_shape)
        for fault in faults:
            response = fault.change(request, response)
        return response, faults

    # Callbacks

    def send_callback(
        self,
        recording: SimRecording,
        url: str,
        method: str = "POST",
        status: str | None = None,
        fields: Mapping[str, str | None] | Sequence[tuple[str, str]] | None = None,
        token: str | None = None,
        public_url: str | None = None,
        basic: tuple[str, str] | None = None,
        idempotency_token: str | None = None,
        shared_key: str | None = None,
    ) -> CallbackAnswer:
        """Send one callback now and return its last answer.

        `method` is POST, GET or JSON. `fields` override and extend the usual ones (None leaves one out); a
        sequence of pairs replaces them all. `token` signs instead of the account's primary one, `shared_key`
        (an id in Account.shared_keys) with HMAC-SHA256. `public_url` is signed instead of `url`.
        """
        account = self.store.accounts[recording.account_sid]
        if isinstance(fields, Mapping) or fields is None:
            merged = {**representations.callback_fields(recording, status), **(fields or {})}
            fields = [(name, value) for name, value in merged.items() if value is not None]
        if shared_key:
            key = Key(account.shared_keys[shared_key], shared_key)
        else:
            key = Key(account.auth_tokens[0] if token is None else token)
        callback = Callback(recording, url, method, fields, key, public_url, basic)
        if idempotency_token:
            callback = replace(callback, idempotency_token=idempotency_token)
        return callback.deliver(self.journal)

    def wait_for_callbacks(self, timeout_s: float = 20.0) -> bool:
        """Wait until no announced callback is on its way; tell whether that came about in time."""
        return self._dispatcher.wait(timeout_s)

    def _announce(self, recording: SimRecording, callback: StatusCallback, status: str) -> CallbackAnswer:
        return self.send_callback(
            recording, callback.url, callback.method, status, callback.fields, public_url=callback.public_url
        )
