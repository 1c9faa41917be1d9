"""Archive one recording: the steps in order, nothing else.

index → fetch → store → verify → receipt. Each step takes what the one before it made, so that the order can't be
got wrong; deletion is another task, which starts from the receipt in S3.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.receipt import Attempt, Filing, Media, Receipt, iso, parse_iso
from app.recording import Recording
from app.settings import WorkerSettings
from workers.archive import Archive
from workers.errors import ContentError, GoneError, NoSuchLayoutError, NotReadyError
from workers.media import CONTENT_TYPES, Expected, LengthUnprovenError, MediaFacts, MediaStream
from workers.metrics import observe_lag, stage
from workers.twilio_api import TwilioApi
from workers.verification import VerifiedObject, read_receipt, verify, verify_receipt

# Two channels first; on 400 one; on 400 as it is stored. Nothing but a 400 steps down (https://www.twilio.com/docs/api/errors/16113).
CHANNEL_LADDER: Final[tuple[int | None, ...]] = (2, 1, None)
NO_DUAL_CHANNELS: Final = 16113
BELIEVED_AFTER: Final = timedelta(days=1)  # what Twilio does not give for a day, it does not have


# What a header can carry whatever Twilio thinks of next; S3 takes 2 KB of metadata in all.
_PLAIN_WORD: Final = r"[A-Za-z0-9_.-]{1,64}"
_PLAIN_VALUE: Final = r"[!-~]{1,1400}"


@dataclass(frozen=True, slots=True)
class FetchedMedia:
    """An open download of a recording's media, and the rungs of the channel ladder that led to it."""

    recording: Recording
    stream: MediaStream
    extension: str
    requested_channels: int | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps, with the two sides that they work on."""

    settings: WorkerSettings
    twilio: TwilioApi
    archive: Archive

    def run(
        self, recording: Recording, callback: Mapping[str, str] | None, quarantine: Mapping[str, Any] | None = None
    ) -> Receipt:
        """Archive a completed recording and return its receipt, as S3 holds it.

        `quarantine` is what failed before, for the receipt to say that it is resolved.

        Harmless to repeat and to run twice at once. Raises `workers.errors`; after any of them nothing is visible
        in the archive that was not verified, and the next run starts from what is there.
        """
        filing = Filing.of(self.settings.ARCHIVE_PREFIX, recording)
        is_believed = quarantine is not None and _is_long_ago(quarantine["first_failed_at"])
        index = filing.index(recording.call_sid, recording.conference_sid)
        is_new = [self.archive.write_empty(key) for key in index]
        # No attempt before this one can have stored anything if none has come as far as the index.
        extension = self._format(recording, filing, is_first=all(is_new))
        try:
            with self._fetch(recording, extension, is_believed) as fetched:
                observe_lag(callback)
                verified = self._store(fetched, filing)
        except LengthUnprovenError as unproven:
            # A cut does not come twice at the same byte: the same body again is the whole one.
            with self._fetch(recording, extension, is_believed, unproven.facts) as fetched:
                verified = self._store(fetched, filing)
        with stage("receipt"):
            return self._write_receipt(fetched, verified, filing, callback, quarantine)

    @contextmanager
    def _fetch(
        self, recording: Recording, extension: str, is_believed: bool, earlier: MediaFacts | None = None
    ) -> Iterator[FetchedMedia]:
        """Open the download on the first rung of the ladder that Twilio has.

        `is_believed`: also a 400 that contradicts the resource and that nothing explains.
        """
        attempts: list[Attempt] = []
        with ExitStack() as stack:
            for channels in CHANNEL_LADDER:
                try:
                    with stage("fetch"):
                        answer = stack.enter_context(
                            self.twilio.media(recording.account_sid, recording.sid, extension, channels)
                        )
                except NoSuchLayoutError as error:
                    attempts.append(Attempt(channels, error.status, error.code))
                    if channels == recording.channels == 2 and error.code != NO_DUAL_CHANNELS and not is_believed:
                        # A gateway's 400 must not lead to the mix of two channels, and to the deletion of both.
                        raise ContentError(
                            "layout_unexplained",
                            f"Twilio states two channels, and answers {error.status} with code {error.code} "
                            "when it is asked for them",
                        ) from None
                    continue
                except GoneError as error:
                    # Not there yet, deleted meanwhile or stored externally: the next look at the resource tells.
                    raise NotReadyError("media_not_ready", error.detail) from None
                attempts.append(Attempt(channels, 200))
                expected = Expected(
                    extension, channels, recording.channels, recording.duration_s, recording.encryption is not None
                )
                stream = MediaStream(answer, expected, earlier=earlier)
                yield FetchedMedia(recording, stream, extension, channels, tuple(attempts))
                return
        raise ContentError("no_channel_layout", f"Twilio answered {[attempt.code for attempt in attempts]} to each")

    def _format(self, recording: Recording, filing: Filing, *, is_first: bool) -> str:
        """Return the format to archive in; Twilio encodes nothing that is encrypted."""
        if recording.encryption:
            return "wav"
        asked = self.settings.ARCHIVE_FORMAT
        other = "mp3" if asked == "wav" else "wav"
        # An attempt under another ARCHIVE_FORMAT may have left its object: a recording has one, and it is never two.
        return asked if is_first or self.archive.head(filing.media(other)) is None else other

    def _store(self, fetched: FetchedMedia, filing: Filing) -> VerifiedObject:
        recording = fetched.recording
        with stage("store"):
            stored = self.archive.store(
                fetched.stream,
                filing.media(fetched.extension),
                CONTENT_TYPES[fetched.extension],
                _metadata(fetched),
                recording.start_time,
            )
        with stage("verify"):
            return verify(self.archive, self.settings, stored)

    def _write_receipt(
        self,
        fetched: FetchedMedia,
        verified: VerifiedObject,
        filing: Filing,
        callback: Mapping[str, str] | None,
        quarantine: Mapping[str, Any] | None,
    ) -> Receipt:
        recording, stored = fetched.recording, verified.stored
        receipt = Receipt(
            recording_sid=recording.sid,
            account_sid=recording.account_sid,
            call_sid=recording.call_sid,
            conference_sid=recording.conference_sid,
            source=recording.raw,
            callback=callback,
            media=Media(
                bucket=self.archive.bucket,
                key=stored.key,
                version_id=verified.version_id,
                format=fetched.extension,
                content_type=CONTENT_TYPES[fetched.extension],
                bytes=stored.media.bytes,
                sha256=stored.media.sha256,
                channels=stored.media.channels,
                sample_rate=stored.media.sample_rate,
                duration_seconds=stored.media.duration_seconds,
                requested_channels=fetched.requested_channels,
                attempts=fetched.attempts,
                part_bytes=stored.part_bytes,
            ),
            encryption=recording.encryption,
            storage=verified.storage,
            verification=verified.verification,
            archived_at=iso(datetime.now(UTC)),
            quarantine=quarantine,
        )
        body = receipt.to_json()
        try:
            Receipt.from_json(body)  # it stays for ever: with a lone surrogate in it, nobody could read it again
        except ValueError as error:
            raise ContentError("resource_malformed", "a receipt of what Twilio says could not be read") from error
        if self.archive.write_once(filing.receipt, body, recording.start_time).body == body:
            return receipt
        # A twin or an earlier attempt was first: its receipt stands if it proves the same bytes.
        earlier = read_receipt(self.archive, filing)
        if earlier is None or verify_receipt(self.archive, earlier).receipt.media.sha256 != stored.media.sha256:
            raise ContentError("receipt_differs", "the receipt in the bucket is of other bytes")
        return earlier.receipt


def _is_long_ago(first_failed_at: str) -> bool:
    return datetime.now(UTC) >= parse_iso(first_failed_at) + BELIEVED_AFTER


def _metadata(fetched: FetchedMedia) -> dict[str, str]:
    """Describe the recording in object metadata: SIDs, dates and encryption details, never a phone number."""
    recording = fetched.recording
    metadata = {
        "account-sid": recording.account_sid,
        "call-sid": recording.call_sid,
        "conference-sid": recording.conference_sid,
        "recording-sid": recording.sid,
        "start-time": iso(recording.start_time),
        "duration": None if recording.duration_s is None else str(recording.duration_s),
        "channels": str(fetched.requested_channels or recording.channels or ""),
        "source": recording.source if re.fullmatch(_PLAIN_WORD, recording.source or "") else None,
    }
    if recording.encryption:
        metadata |= {
            "encryption-type": recording.encryption.type,
            "encryption-public-key-sid": recording.encryption.public_key_sid,
            "encryption-cek": recording.encryption.encrypted_cek,
            "encryption-iv": recording.encryption.iv,
        }
    return {name: value for name, value in metadata.items() if value and re.fullmatch(_PLAIN_VALUE, value)}
