"""Bugs of callbacks, messages, retries and sweeps, and of what is said where."""

from tests.planted.bug import bug

TASKS, SWEEP, OUTSTANDING, TWILIO = (
    "workers/tasks.py",
    "workers/sweep.py",
    "workers/outstanding.py",
    "workers/twilio_api.py",
)

BUGS = (
    bug(
        "early-acknowledgement",
        "acknowledges a message before its work is done",
        ("workers/celery_app.py", "task_acks_late=True,", "task_acks_late=False,"),
    ),
    bug(
        "retry-without-cap",
        "lets a retry wait as long as the backoff or Twilio says, in one worker's memory",
        (TASKS, "return float(min(_LAST_RETRY_S, max(backoff,", "return float(min(1e9, max(backoff,"),
    ),
    bug(
        "retry-without-end",
        "retries for ever",
        (TASKS, "        if retries < error.retries:", "        if error.retries:"),
    ),
    bug(
        "no-retry",
        "leaves every failure to the sweep",
        (TASKS, "        if retries < error.retries:", "        if False:"),
    ),
    bug(
        "pagination-stops",
        "reads the first page of a list and no other",
        (TWILIO, "            if not following.path:\n                return\n", "            return\n"),
    ),
    bug(
        "sweep-window-off-by-a-day",
        "lets a frequent sweep begin a day later than it should",
        (SWEEP, "(now - settings.SWEEP_LOOKBACK).date()", "(now - settings.SWEEP_LOOKBACK).date() + timedelta(days=1)"),
    ),
    bug(
        "sweep-of-nothing",
        "takes every recording for one whose callback may still be worked on",
        (
            OUTSTANDING,
            "        return min(since_created, since_started - timedelta(seconds=seconds)) < self.grace\n",
            "        return since_created >= timedelta(0)\n",
        ),
    ),
    bug(
        "sweep-never-looks-back",
        "never looks at everything, so that what is older than the lookback stays where it is",
        (SWEEP, "        return not self.hints.was_done(_chore(account_sid), DAY_S)\n", "        return False\n"),
    ),
    bug(
        "archived-day-of-another",
        "takes a day with any receipt for a day of which everything is archived",
        (
            OUTSTANDING,
            "        written, delete_after = filed.receipts.get(recording.sid), self.rules.delete_after\n",
            "        written, delete_after = next(iter(filed.receipts.values()), None), self.rules.delete_after\n",
        ),
    ),
    bug(
        "stale-uploads-kept",
        "never throws away what the uploads of dead workers have left",
        (SWEEP, "        self._abort_stale_uploads(datetime.now(UTC))\n", ""),
    ),
    bug(
        "lease-taken-for-truth",
        "takes no answer of Redis for the news that somebody else works on a recording",
        (
            "workers/hints.py",
            '            log.warning("lease_unavailable")\n            yield True\n',
            '            log.warning("lease_unavailable")\n            yield False\n',
        ),
        tests=("tests/integration/test_hints.py",),
    ),
    bug(
        "next-token-not-tried",
        "tries only the first auth token, also during a rotation",
        (TWILIO, "            if answer.status_code != 401:\n                break\n", "            break\n"),
        tests=("tests/integration/test_twilio_api.py",),
    ),
    bug(
        "signature-not-checked",
        "takes a callback without looking at its signature",
        ("app/callback.py", "        if key is None:\n", "        if key is None and not signed.signature:\n"),
        ("app/callback.py", "        SIGNATURE_KEYS.labels(", "        key = key or 0\n        SIGNATURE_KEYS.labels("),
    ),
    bug(
        "callback-taken-for-truth",
        "puts every field of a callback on the queue, also those that Twilio does not document",
        (
            "app/recording.py",
            "                if _FIELD_NAME.fullmatch(name):\n                    unknown.append(name)\n                continue\n",
            "                unknown.append(value)\n                continue\n",
        ),
    ),
    bug(
        "token-logged",
        "logs the credentials that Twilio has refused",
        (
            TWILIO,
            "                break\n            answer.close()\n",
            '                break\n            log.warning("token_refused", tried=first[1])\n            answer.close()\n',
        ),
    ),
    bug(
        "answer-logged",
        "quotes Twilio's answer in its errors",
        (
            TWILIO,
            '    detail = f"Twilio answered {status} with code {error_code(answer)}"\n',
            '    detail = f"Twilio answered {status}: {answer.raw.read(2000, decode_content=True)!r}"\n',
        ),
    ),
    bug(
        "junk-logged",
        "quotes a message that is not ours in the error about it",
        (
            TASKS,
            '        raise JunkMessageError("junk_message", "a message without the SIDs of an account and a recording")',
            '        raise JunkMessageError("junk_message", f"a message without SIDs: {message}")',
        ),
    ),
)
