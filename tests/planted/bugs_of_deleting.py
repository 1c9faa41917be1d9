"""Bugs of the deletion, of what forbids it, and of quarantine."""

from tests.planted.bug import bug

TASKS, DELETION, VERIFICATION = "workers/tasks.py", "workers/deletion.py", "workers/verification.py"

BUGS = (
    bug(
        "delete-before-receipt",
        "deletes the source as soon as the media is verified, before there is a receipt",
        (
            "workers/pipeline.py",
            "        body = receipt.to_json()\n",
            "        self.twilio.delete(recording.account_sid, recording.sid)\n        body = receipt.to_json()\n",
        ),
    ),
    bug(
        "delete-without-receipt",
        "deletes what a message names when there is no receipt",
        (
            TASKS,
            '            raise ForbiddenDeletionError("no_receipt", "there is no receipt under that day")\n',
            "            self.twilio.delete(filing.account_sid, filing.recording_sid)\n            raise ForbiddenDeletionError('no_receipt', '')\n",
        ),
    ),
    bug(
        "receipt-taken-for-proof",
        "deletes by the receipt alone, without asking S3 what it holds now",
        (
            VERIFICATION,
            "    verification = receipt.verification\n    checksum = _compare(",
            "    return VerifiedReceipt(filing, receipt, filed.version_id, legal_hold=False)\n    verification = receipt.verification\n    checksum = _compare(",
        ),
    ),
    bug(
        "overwritten-unnoticed",
        "does not compare the version of the media with that of the receipt, nor size and checksum",
        (VERIFICATION, '    if head.get("VersionId", "null") != (media.version_id or "null"):', "    if False:"),
        (
            VERIFICATION,
            "    checksum = _compare(archive, verification.method, media.key, head, media.bytes, media.sha256, verification.checksum)\n",
            "    checksum = None\n",
        ),
    ),
    bug(
        "retention-not-compared",
        "deletes although the retention has become shorter than the receipt records",
        (VERIFICATION, "    if not _kept_as(receipt.storage, head):", "    if False:"),
        tests=("tests/integration/test_verification.py",),
    ),
    bug(
        "request-not-written",
        "sends the DELETE before it has written what allowed it",
        (
            DELETION,
            '        first = self.archive.write_once(verified.filing.deletion_request, request, started).body\n        if first != request and self.archive.head(verified.filing.deletion) is not None:\n            return False\n        if self.clock() - began > _MOMENT_S:\n            raise TemporaryError("checks_outdated", "S3 was slow: what allows a deletion is looked at again")\n        status = self.twilio.delete(verified.filing.account_sid, verified.filing.recording_sid)\n',
            "        status = self.twilio.delete(verified.filing.account_sid, verified.filing.recording_sid)\n        first = self.archive.write_once(verified.filing.deletion_request, request, started).body\n        if first != request and self.archive.head(verified.filing.deletion) is not None:\n            return False\n",
        ),
    ),
    bug(
        "quarantine-ignored",
        "deletes what is in quarantine",
        (DELETION, "        if self.archive.head(verified.filing.quarantine) is not None:", "        if False:"),
    ),
    bug(
        "stop-switch-ignored",
        "deletes while deletions are paused",
        (
            DELETION,
            "        if self.archive.head(self.archive.prefix + DELETIONS_PAUSED) is not None:",
            "        if False:",
        ),
    ),
    bug(
        "stop-switch-read-early",
        "looks at the stop switch long before the DELETE",
        (
            DELETION,
            "        if self.archive.head(self.archive.prefix + DELETIONS_PAUSED) is not None:",
            "        if False:",
        ),
        (
            TASKS,
            "            listed = list_texts(self.twilio, filing)",
            '            if self.archive.head(self.archive.prefix + "control/deletions-paused.json") is not None:\n                raise ForbiddenDeletionError("deletions_paused", "")\n            listed = list_texts(self.twilio, filing)',
        ),
    ),
    bug(
        "legal-hold-ignored",
        "deletes the source of what is under a legal hold",
        (DELETION, "        if verified.legal_hold:", "        if False:"),
    ),
    bug(
        "delay-ignored",
        "deletes right after verification, however long TWILIO_DELETE asks to wait",
        (
            "workers/next_step.py",
            "return delete_after is not None and now >= parse_iso(receipt.archived_at) + delete_after",
            "return delete_after is not None",
        ),
    ),
    bug(
        "never-ignored",
        "takes `never` for a delay of no time",
        (
            "workers/next_step.py",
            "return delete_after is not None and now >= parse_iso(receipt.archived_at) + delete_after",
            "return now >= parse_iso(receipt.archived_at) + (delete_after or timedelta(0))",
        ),
    ),
    bug(
        "deletion-unconfirmed",
        "writes the proof of a deletion whatever Twilio answers",
        (DELETION, '        if confirmation is not None and confirmation.status != "deleted":', "        if False:"),
        (
            "workers/twilio_api.py",
            "                _raise_for_status(answer, expected=204)\n",
            "",
        ),
    ),
    bug(
        "wrong-account-asked",
        "sends the DELETE and asks for the confirmation as the first account, whichever the recording belongs to",
        (
            DELETION,
            "status = self.twilio.delete(verified.filing.account_sid, verified.filing.recording_sid)",
            "status = self.twilio.delete(self.settings.TWILIO_ACCOUNT_SID, verified.filing.recording_sid)",
        ),
    ),
    bug(
        "texts-forgotten",
        "deletes a recording without keeping its transcriptions",
        (
            TASKS,
            "            texts = keep_texts(self.archive, filing, listed)\n",
            "            from workers.transcriptions import KeptTexts\n\n            texts = KeptTexts()\n",
        ),
    ),
    bug(
        "transcription-broken",
        "does not wait for a transcription that is in progress",
        ("workers/transcriptions.py", "    if failure and now < since + PATIENCE:\n", "    if False:\n"),
    ),
    bug(
        "mismatch-pauses-nothing",
        "goes on deleting others when a receipt and its object disagree",
        (TASKS, "            pause_deletions(self.archive, error.reason, filing.recording_sid)\n", ""),
        tests=("tests/integration/test_deletion.py", "tests/integration/test_quarantine.py"),
    ),
    bug(
        "content-failure-forgotten",
        "does not count a failure of the content",
        (
            TASKS,
            "attempts = record_failure(self.archive, filing, error, self.settings.QUARANTINE_AFTER)",
            "attempts = 0",
        ),
    ),
    bug(
        "nobody-called",
        "never calls for a person, however often the content has failed",
        (
            "workers/quarantine.py",
            "level = log.error if failed.attempts >= threshold else log.warning",
            "level = log.warning",
        ),
    ),
    bug(
        "outage-counted-as-corruption",
        "counts failures of network and service in the quarantine document",
        (
            TASKS,
            "        except ContentError as error:\n            CONTENT_FAILURES",
            "        except ArchiverError as error:\n            CONTENT_FAILURES",
        ),
    ),
    bug(
        "quarantine-never-resolved",
        "leaves the quarantine document when the recording is archived at last",
        (
            TASKS,
            '            self.archive.remove(filing.quarantine)\n            log.info("quarantine_resolved"',
            '            log.info("quarantine_resolved"',
        ),
    ),
    bug(
        "request-taken-for-permission",
        "looks at nothing once the request of a deletion is written, as after a worker's death",
        (
            DELETION,
            "        self._check_allowed(verified)\n",
            "        if self.archive.head(verified.filing.deletion_request) is None:\n"
            "            self._check_allowed(verified)\n",
        ),
    ),
    bug(
        "old-looks",
        "deletes by looks that S3 has made old by answering slowly",
        (DELETION, "        if self.clock() - began > _MOMENT_S:\n", "        if False:\n"),
        tests=("tests/integration/test_deletion.py",),
    ),
)
