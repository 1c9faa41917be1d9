"""Bugs on the way from Twilio's bytes to the receipt."""

from tests.planted.bug import bug

PIPELINE, ARCHIVE, MEDIA = "workers/pipeline.py", "workers/archive.py", "workers/media.py"
VERIFICATION, RECEIPT, TWILIO = "workers/verification.py", "app/receipt.py", "workers/twilio_api.py"

BUGS = (
    bug(
        "channel-dropped",
        "asks for one channel first, so that a call in two channels is archived as its mix",
        (
            PIPELINE,
            "CHANNEL_LADDER: Final[tuple[int | None, ...]] = (2, 1, None)",
            "CHANNEL_LADDER: Final[tuple[int | None, ...]] = (1, None)",
        ),
    ),
    bug(
        "fallback-on-500",
        "steps down the channel ladder on any error of Twilio's, not only on a 400",
        (
            TWILIO,
            "            if answer.status_code == 400:\n                raise NoSuchLayoutError(400,",
            "            if answer.status_code >= 400:\n                raise NoSuchLayoutError(answer.status_code,",
        ),
        (
            PIPELINE,
            "if channels == recording.channels == 2 and error.code != NO_DUAL_CHANNELS and not is_believed:",
            "if False:",
        ),
    ),
    bug(
        "unexplained-400-believed",
        "takes a gateway's 400 for Twilio's word that there are no two channels",
        (
            PIPELINE,
            "if channels == recording.channels == 2 and error.code != NO_DUAL_CHANNELS and not is_believed:",
            "if False:",
        ),
    ),
    bug(
        "length-ignored",
        "takes a connection that breaks for the end of the body",
        (
            MEDIA,
            '            raise TemporaryError("media_interrupted", type(error).__name__) from None',
            '            return b""',
        ),
        (MEDIA, "if announced is not None and announced != self._bytes:", "if False:"),
    ),
    bug(
        "end-of-connection-trusted",
        "takes the end of a connection for the end of the audio, though nothing says how long it is",
        (MEDIA, "if not proven and facts != self._earlier:", "if False:"),
    ),
    bug(
        "channels-not-compared",
        "accepts audio with another number of channels than was asked for",
        (MEDIA, "if asked is not None and audio.channels is not None and audio.channels != asked:", "if False:"),
        tests=("tests/unit/test_media.py",),
    ),
    bug(
        "duration-not-compared",
        "accepts audio of another length than the resource states",
        (MEDIA, "        self._check_duration(audio.duration_seconds)\n", ""),
    ),
    bug(
        "content-type-ignored",
        "does not look at what Twilio calls the body",
        (MEDIA, "if answer.content_type not in types:", "if False:"),
        tests=("tests/unit/test_media.py",),
    ),
    bug(
        "visible-before-judged",
        "completes a multipart upload before it has judged the body",
        (ARCHIVE, "        return parts, stream.finish()\n", "        return parts, None\n"),
        (
            ARCHIVE,
            "            version = self._complete(target, parts, checksum, media.bytes)\n",
            "            version = self._complete(target, parts, checksum, stream._bytes)\n            media = stream.finish()\n",
        ),
    ),
    bug(
        "small-visible-before-judged",
        "puts a small body before it has judged it",
        (
            ARCHIVE,
            "        media = stream.finish()\n        checksum = b64encode(bytes.fromhex(media.sha256)).decode()\n",
            "        checksum = b64encode(stream._sha256.digest()).decode()\n        version = self._put(key, part, checksum=checksum, **options)\n        media = stream.finish()\n",
        ),
    ),
    bug(
        "media-overwritten",
        "writes media, receipts and all else without asking for If-None-Match",
        (
            ARCHIVE,
            '                ChecksumSHA256=checksum,\n                IfNoneMatch="*",\n                **self._owner,',
            "                ChecksumSHA256=checksum,\n                **self._owner,",
        ),
    ),
    bug(
        "parts-overwrite",
        "completes a multipart upload without asking for If-None-Match",
        (
            ARCHIVE,
            '                MpuObjectSize=size,\n                IfNoneMatch="*",\n',
            "                MpuObjectSize=size,\n",
        ),
        tests=("tests/integration/test_archive.py",),
    ),
    bug(
        "412-trusted",
        "believes that what is under the key already is what it wanted to write",
        (
            VERIFICATION,
            "    checksum = _compare(archive, method, stored.key, head, stored.media.bytes, stored.media.sha256, stored.checksum)\n",
            "    checksum = stored.checksum\n    if stored.is_new:\n        checksum = _compare(archive, method, stored.key, head, stored.media.bytes, stored.media.sha256, checksum)\n",
        ),
    ),
    bug(
        "verification-skipped",
        "takes its own memory for S3's word on size and checksum",
        (
            VERIFICATION,
            "    checksum = _compare(archive, method, stored.key, head, stored.media.bytes, stored.media.sha256, stored.checksum)\n",
            "    checksum = stored.checksum\n",
        ),
    ),
    bug(
        "earlier-receipt-trusted",
        "returns a receipt that is there already without comparing it with anything",
        (
            PIPELINE,
            "        if earlier is None or verify_receipt(self.archive, earlier).receipt.media.sha256 != stored.media.sha256:",
            "        if earlier is None:",
        ),
        tests=("tests/integration/test_pipeline.py",),
    ),
    bug(
        "receipt-before-index",
        "writes the receipt before the index by which it is found",
        (PIPELINE, "[self.archive.write_empty(key) for key in index]", "[False]"),
        (
            PIPELINE,
            "            return self._write_receipt(fetched, verified, filing, callback, quarantine)\n",
            "            receipt = self._write_receipt(fetched, verified, filing, callback, quarantine)\n            for key in index:\n                self.archive.write_empty(key)\n            return receipt\n",
        ),
    ),
    bug(
        "clock-in-the-key",
        "files a recording under the day on which it is archived",
        (
            RECEIPT,
            "return cls(prefix, recording.account_sid, recording.sid, recording.day)",
            "return cls(prefix, recording.account_sid, recording.sid, datetime.now(UTC).date())",
        ),
    ),
    bug(
        "lock-date-from-now",
        "counts the retention from the archival instead of the recording's start",
        (
            ARCHIVE,
            "until, now = started + timedelta(days=days), datetime.now(UTC)",
            "now = datetime.now(UTC)\n        until = now + timedelta(days=days)",
        ),
    ),
    bug(
        "lock-forgotten-in-parts",
        "does not lock what is uploaded in parts",
        (
            ARCHIVE,
            'upload_id = self._s3.create_multipart_upload(ChecksumAlgorithm="SHA256", **target, **options)["UploadId"]',
            'options = {name: value for name, value in options.items() if not name.startswith("ObjectLock")}\n            upload_id = self._s3.create_multipart_upload(ChecksumAlgorithm="SHA256", **target, **options)["UploadId"]',
        ),
    ),
    bug(
        "upload-left-behind",
        "does not abort an upload that it gives up",
        (
            ARCHIVE,
            "        except BaseException:\n            self._abort(target)\n            raise\n        return StoredObject(key, version,",
            "        except BaseException:\n            raise\n        return StoredObject(key, version,",
        ),
    ),
    bug(
        "encrypted-as-mp3",
        "asks for MP3 of an encrypted recording where the settings say MP3",
        (PIPELINE, '        if recording.encryption:\n            return "wav"\n', ""),
    ),
    bug(
        "errors-taken-for-missing",
        "takes any refusal of S3 for the answer that there is no such object",
        ("workers/s3_errors.py", "        if missing_ok and code in _MISSING:", "        if missing_ok:"),
    ),
    bug(
        "absence-on-hearsay",
        "writes an absence when a callback says so, whatever REST says",
        (
            "workers/next_step.py",
            '    if recording.status == "completed":\n        return Step.RECORD_ABSENCE if observed.stored_externally else Step.ARCHIVE\n',
            '    if recording.status == "completed":\n        absent = observed.stored_externally or observed.callback_status in ("absent", "failed")\n        return Step.RECORD_ABSENCE if absent else Step.ARCHIVE\n',
        ),
    ),
    bug(
        "404-taken-for-absence",
        "writes an absence when Twilio does not show a recording yet, though no callback calls it absent",
        (
            "workers/next_step.py",
            "return Step.RECORD_ABSENCE if says_absent and not observed.was_seen else Step.WAIT",
            "return Step.RECORD_ABSENCE",
        ),
    ),
)
