"""The whole table of the audit: what Twilio and S3 show, and the one state that it means."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.judgement import Ledger, Rules, Source, State, judge

BEGAN = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GRACE = timedelta(minutes=2)
NOW, RECENT, LONG_AGO = BEGAN, BEGAN - timedelta(seconds=30), BEGAN - timedelta(days=3)
AT_ONCE = Rules(BEGAN, GRACE, timedelta(0))
NEVER = replace(AT_ONCE, delete_after=None)
A_WEEK = replace(AT_ONCE, delete_after=timedelta(days=7))
PAUSED = replace(AT_ONCE, deletions_paused=True)


def source(status: str = "completed", changed: datetime = LONG_AGO, **other: Any) -> Source:
    return Source(status, other.get("error_code"), other.get("external", False), changed)


def archived(receipt: datetime = LONG_AGO, **other: Any) -> Ledger:
    return Ledger(**({"media": 1, "receipt": receipt, "touched": receipt} | other))


def deleted(deletion: datetime = LONG_AGO, **other: Any) -> Ledger:
    return archived(**({"request": True, "deletion": deletion, "touched": deletion} | other))


NOTHING = Ledger()
MEDIA = Ledger(media=1, touched=LONG_AGO)
ABSENCE = Ledger(absence=True, touched=LONG_AGO)
QUARANTINE = Ledger(quarantine=True, touched=LONG_AGO)
GONE = source("deleted")

# name, Twilio, S3, rules, state, a discrepancy, work of ours is left
TABLE: list[tuple[str, Source | None, Ledger, Rules, State, bool, bool]] = [
    ("archived, deleted by us", GONE, deleted(), AT_ONCE, State.OK, False, False),
    ("proof of deletion missing", GONE, archived(request=True), AT_ONCE, State.OK, False, True),
    ("just deleted", source("deleted", RECENT), archived(request=True), AT_ONCE, State.OK, False, False),
    ("kept for ever", source(), archived(), NEVER, State.KEPT, False, False),
    ("kept for a while", source(), archived(), A_WEEK, State.KEPT, False, False),
    ("deletion due today", source(), archived(RECENT), AT_ONCE, State.KEPT, False, True),
    ("deletion overdue", source(), archived(), AT_ONCE, State.KEPT, True, True),
    ("deletions paused", source(), archived(), PAUSED, State.KEPT, False, False),
    ("legal hold", source(), archived(held=True), AT_ONCE, State.KEPT, False, False),
    ("deleted while the audit ran", source(), deleted(NOW), AT_ONCE, State.IN_FLIGHT, False, False),
    ("just completed", source(changed=RECENT), NOTHING, AT_ONCE, State.IN_FLIGHT, False, False),
    ("live", source("in-progress"), NOTHING, AT_ONCE, State.IN_FLIGHT, False, False),
    ("paused", source("paused"), NOTHING, AT_ONCE, State.IN_FLIGHT, False, False),
    ("processing", source("processing", RECENT), NOTHING, AT_ONCE, State.IN_FLIGHT, False, False),
    ("stored, receipt to come", None, Ledger(media=1, touched=NOW), AT_ONCE, State.IN_FLIGHT, False, False),
    ("archived since the list was read", None, archived(NOW), AT_ONCE, State.IN_FLIGHT, False, False),
    ("not archived", source(), NOTHING, AT_ONCE, State.MISSING, True, True),
    ("media without receipt", source(), MEDIA, AT_ONCE, State.MISSING, True, True),
    ("documented as absent, yet completed", source(), ABSENCE, AT_ONCE, State.MISSING, True, True),
    ("too short", source("absent", error_code=16101), ABSENCE, AT_ONCE, State.NO_AUDIO, False, False),
    ("too short, undocumented", source("absent", error_code=16101), NOTHING, AT_ONCE, State.NO_AUDIO, False, True),
    ("silent, just now", source("absent", RECENT, error_code=16102), NOTHING, AT_ONCE, State.NO_AUDIO, False, False),
    ("absent without a reason", source("absent"), ABSENCE, AT_ONCE, State.NO_AUDIO, False, False),
    ("absence that Twilio forgot", None, ABSENCE, AT_ONCE, State.NO_AUDIO, False, False),
    ("absence, then deleted", GONE, ABSENCE, AT_ONCE, State.NO_AUDIO, False, False),
    ("encryption failed", source("absent", error_code=16104), ABSENCE, AT_ONCE, State.FAILED_AT_SOURCE, False, False),
    (
        "external storage failed",
        source("absent", error_code=16111),
        ABSENCE,
        NEVER,
        State.FAILED_AT_SOURCE,
        False,
        False,
    ),
    ("failed", source("failed"), NOTHING, AT_ONCE, State.FAILED_AT_SOURCE, False, True),
    ("processing for days", source("processing"), NOTHING, AT_ONCE, State.STUCK_AT_SOURCE, True, False),
    ("stopped for days", source("stopped"), NOTHING, AT_ONCE, State.STUCK_AT_SOURCE, True, False),
    ("a new status for days", source("archiving"), NOTHING, AT_ONCE, State.STUCK_AT_SOURCE, True, False),
    ("expired", None, deleted(media=0, retention_over=True), AT_ONCE, State.EXPIRED, False, False),
    ("expired, never deleted", source(), archived(media=0, retention_over=True), NEVER, State.EXPIRED, False, False),
    ("somebody deleted it", GONE, archived(), NEVER, State.DELETED_ELSEWHERE, True, False),
    ("no longer listed, nobody knows why", None, archived(), NEVER, State.DELETED_ELSEWHERE, True, False),
    ("deleted and not archived", GONE, NOTHING, AT_ONCE, State.LOST, True, False),
    ("deleted just now, not archived", source("deleted", RECENT), NOTHING, AT_ONCE, State.LOST, True, False),
    ("deleted in quarantine", GONE, QUARANTINE, AT_ONCE, State.LOST, True, False),
    ("deleted before its media was verified", GONE, MEDIA, AT_ONCE, State.LOST, True, False),
    ("archive emptied", GONE, Ledger(request=True, deletion=LONG_AGO), AT_ONCE, State.LOST, True, False),
    ("media vanished", GONE, deleted(media=0), AT_ONCE, State.MISMATCH, True, False),
    ("media vanished, source there", source(), archived(media=0), NEVER, State.MISMATCH, True, False),
    ("two media objects", GONE, deleted(media=2), AT_ONCE, State.MISMATCH, True, False),
    ("receipt and absence", source(), archived(absence=True), AT_ONCE, State.MISMATCH, True, False),
    ("proof of deletion, source there", source(), deleted(), AT_ONCE, State.MISMATCH, True, False),
    ("archived, and said to be absent", source("absent"), archived(), AT_ONCE, State.MISMATCH, True, False),
    ("media, and said to be absent", source("absent"), MEDIA, AT_ONCE, State.MISMATCH, True, False),
    ("media that nothing explains", None, MEDIA, AT_ONCE, State.MISMATCH, True, False),
    ("receipt vanished", GONE, Ledger(media=1, request=True), AT_ONCE, State.MISMATCH, True, False),
    ("only a deletion is left", None, Ledger(deletion=LONG_AGO), AT_ONCE, State.MISMATCH, True, False),
    ("at the account's own storage", source(external=True), ABSENCE, AT_ONCE, State.EXTERNALLY_STORED, False, False),
    ("the same, undocumented", source(external=True), NOTHING, AT_ONCE, State.EXTERNALLY_STORED, False, True),
    ("the same, deleted", source("deleted", external=True), NOTHING, AT_ONCE, State.EXTERNALLY_STORED, False, False),
    ("in quarantine", source(), QUARANTINE, AT_ONCE, State.QUARANTINED, True, False),
    ("archived and in quarantine", source(), archived(quarantine=True), NEVER, State.QUARANTINED, True, True),
    ("the same, deleted since", GONE, archived(quarantine=True), NEVER, State.QUARANTINED, True, True),
    ("the same, forgotten by Twilio", None, archived(quarantine=True), NEVER, State.QUARANTINED, True, True),
    (
        "documented without audio, and in quarantine",
        source("absent", error_code=16101),
        Ledger(absence=True, quarantine=True, touched=LONG_AGO),
        AT_ONCE,
        State.QUARANTINED,
        True,
        True,
    ),
    ("in quarantine, not at Twilio", None, QUARANTINE, AT_ONCE, State.QUARANTINED, True, False),
    ("deleted by us, forgotten by Twilio", None, deleted(), AT_ONCE, State.AGED_OUT, False, False),
    ("requested by us, forgotten by Twilio", None, archived(request=True), AT_ONCE, State.AGED_OUT, False, False),
    ("archived 41 days ago", None, archived(BEGAN - timedelta(days=41)), NEVER, State.AGED_OUT, False, False),
]


@pytest.mark.parametrize(
    ("at_twilio", "in_s3", "rules", "state", "wrong", "unfinished"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_the_table(
    at_twilio: Source | None, in_s3: Ledger, rules: Rules, state: State, wrong: bool, unfinished: bool
) -> None:
    """Each combination means one state, is a discrepancy or not, and leaves work to do or not."""
    verdict = judge(at_twilio, in_s3, rules)
    assert (verdict.state, verdict.wrong, verdict.unfinished) == (state, wrong, unfinished), verdict.why


def test_every_state_is_in_the_table() -> None:
    """No state of the contract is left out above."""
    assert {row[4] for row in TABLE} == set(State)


MOMENTS = st.sampled_from([NOW, RECENT, LONG_AGO, BEGAN - timedelta(days=50)])
SOURCES = st.none() | st.builds(
    Source,
    st.sampled_from(["completed", "deleted", "absent", "failed", "processing", "in-progress", "paused", "new"]),
    st.none() | st.sampled_from([16101, 16102, 16105, 99999]),
    st.booleans(),
    MOMENTS,
)
LEDGERS = st.builds(
    Ledger,
    media=st.integers(0, 2),
    receipt=st.none() | MOMENTS,
    request=st.booleans(),
    deletion=st.none() | MOMENTS,
    absence=st.booleans(),
    quarantine=st.booleans(),
    touched=MOMENTS,
    retention_over=st.booleans(),
    held=st.booleans(),
)
RULES = st.sampled_from([AT_ONCE, NEVER, A_WEEK, PAUSED])


@given(SOURCES, LEDGERS, RULES)
def test_whatever_is_seen_means_a_state_and_every_discrepancy_says_why(
    at_twilio: Source | None, in_s3: Ledger, rules: Rules
) -> None:
    """The judgement is total; nothing calls for a person without a word."""
    verdict = judge(at_twilio, in_s3, rules)
    assert verdict.state in State
    assert verdict.why or not verdict.wrong


@given(LEDGERS, RULES)
def test_what_is_deleted_and_has_no_receipt_never_looks_fine(in_s3: Ledger, rules: Rules) -> None:
    """Deleted at Twilio without a receipt is a discrepancy unless an absence explains it."""
    verdict = judge(GONE, replace(in_s3, receipt=None, absence=False), rules)
    assert verdict.wrong
    assert verdict.state in (State.LOST, State.MISMATCH)


@given(SOURCES, LEDGERS, RULES)
def test_only_media_with_a_receipt_counts_as_archived(at_twilio: Source | None, in_s3: Ledger, rules: Rules) -> None:
    """The good states of the archive need both one media object and a receipt."""
    verdict = judge(at_twilio, in_s3, rules)
    if verdict.state in (State.OK, State.KEPT, State.AGED_OUT, State.DELETED_ELSEWHERE):
        assert in_s3.media == 1
        assert in_s3.receipt is not None


@pytest.mark.parametrize(
    ("code", "words"), [(16101, "too short"), (16102, "silent"), (16105, "encryption failed"), (99999, "error code")]
)
def test_why_there_is_no_audio_is_said_in_words_with_the_code(code: int, words: str) -> None:
    """Twilio's code is explained, and given for whoever wants to look it up."""
    why = judge(source("absent", error_code=code), ABSENCE, AT_ONCE).why
    assert words in why
    assert str(code) in why
