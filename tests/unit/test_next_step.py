"""What to do next for a recording, case by case."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.receipt import Media, Receipt, Storage, Verification
from app.recording import Recording
from workers.next_step import Observed, Step, deletion_is_due, next_step

ARCHIVED_AT = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
AT_ONCE, NEVER, A_DAY = timedelta(0), None, timedelta(hours=24)

RECEIPT = Receipt(
    recording_sid="RE" + "1" * 32,
    account_sid="AC" + "1" * 32,
    call_sid=None,
    conference_sid=None,
    source={},
    callback=None,
    media=Media("bucket", "key", None, "wav", "audio/x-wav", 1, "0" * 64, 1, 8000, 1.0, 1, ()),
    encryption=None,
    storage=Storage(None, None, "STANDARD", None, None),
    verification=Verification("checksum", None, "2026-11-22T10:00:00.000Z"),
    archived_at="2026-11-22T10:00:00.000Z",
)


def recording(status: str) -> Recording:
    return Recording.parse(
        {
            "sid": "RE" + "1" * 32,
            "account_sid": "AC" + "1" * 32,
            "status": status,
            "date_created": "Sun, 22 Nov 2026 09:00:00 +0000",
        }
    )


def step(status: str | None, **observed: Any) -> Step:
    """Decide about a recording with this status at Twilio; None is a 404."""
    defaults: dict[str, Any] = {
        "stored_externally": False,
        "callback_status": None,
        "receipt": None,
        "delete_after": AT_ONCE,
        "now": ARCHIVED_AT,
    }
    return next_step(Observed(recording=recording(status) if status else None, **(defaults | observed)))


@pytest.mark.parametrize("callback_status", [None, "completed", "absent", "failed", "in-progress"])
def test_completed_recording_is_archived_whatever_the_callback_said(callback_status: str | None) -> None:
    """REST's `completed` leads to archiving, also when a callback said absent or failed."""
    assert step("completed", callback_status=callback_status) is Step.ARCHIVE


@pytest.mark.parametrize("status", ["in-progress", "paused", "stopped", "processing", "some-new-status", "COMPLETED"])
@pytest.mark.parametrize("callback_status", [None, "completed", "absent"])
@pytest.mark.parametrize("receipt", [None, RECEIPT], ids=["unarchived", "archived"])
def test_unfinished_and_unknown_statuses_wait(
    status: str, callback_status: str | None, receipt: Receipt | None
) -> None:
    """A recording that Twilio has not finished, or that has a status nobody knows, is left alone for now."""
    assert step(status, callback_status=callback_status, receipt=receipt) is Step.WAIT


@pytest.mark.parametrize("status", ["absent", "failed"])
@pytest.mark.parametrize("callback_status", [None, "completed", "absent"])
def test_absence_needs_only_rests_word(status: str, callback_status: str | None) -> None:
    """A recording that REST calls absent or failed is documented as an absence."""
    assert step(status, callback_status=callback_status) is Step.RECORD_ABSENCE


@pytest.mark.parametrize("status", ["absent", "failed"])
def test_archived_recording_is_never_an_absence(status: str) -> None:
    """What has a receipt is neither documented as absent nor deleted, whatever Twilio says later."""
    assert step(status, receipt=RECEIPT) is Step.NOTHING


@pytest.mark.parametrize(
    ("callback_status", "expected"),
    [
        ("absent", Step.RECORD_ABSENCE),
        ("failed", Step.RECORD_ABSENCE),
        ("completed", Step.WAIT),
        ("in-progress", Step.WAIT),
        (None, Step.WAIT),
    ],
)
def test_404_counts_only_beside_a_callback_of_absence(callback_status: str | None, expected: Step) -> None:
    """Twilio's 404 alone decides nothing; beside an absent or failed callback it is an absence."""
    assert step(None, callback_status=callback_status) is expected


@pytest.mark.parametrize("callback_status", ["absent", "failed", None])
def test_what_twilio_has_shown_complete_is_no_absence(callback_status: str | None) -> None:
    """A 404 does not make an absence of a recording whose archiving has begun, whatever the callback says."""
    assert step(None, callback_status=callback_status, was_seen=True) is Step.WAIT


@pytest.mark.parametrize("callback_status", [None, "completed", "absent", "failed"])
def test_404_of_an_archived_recording_is_the_end(callback_status: str | None) -> None:
    """An archived recording that Twilio no longer shows needs nothing more."""
    assert step(None, callback_status=callback_status, receipt=RECEIPT) is Step.NOTHING


def test_media_stored_externally_is_an_absence() -> None:
    """A completed recording whose media is in the account's own storage is documented, not downloaded."""
    assert step("completed", stored_externally=True) is Step.RECORD_ABSENCE


def test_archived_recording_stored_externally_later_is_deleted_as_any() -> None:
    """A receipt is stronger than where Twilio says that the media is now."""
    assert step("completed", stored_externally=True, receipt=RECEIPT) is Step.DELETE


@pytest.mark.parametrize("status", ["completed", "deleted"])
@pytest.mark.parametrize(
    ("delete_after", "age", "expected"),
    [
        (AT_ONCE, timedelta(0), Step.DELETE),
        (A_DAY, timedelta(hours=24), Step.DELETE),
        (A_DAY, timedelta(hours=24, milliseconds=-1), Step.NOTHING),
        (NEVER, timedelta(days=10000), Step.NOTHING),
    ],
)
def test_archived_recording_is_deleted_when_due(
    status: str, delete_after: timedelta | None, age: timedelta, expected: Step
) -> None:
    """An archived source goes when the delay from `archived_at` is over, and its proof is completed when it is gone."""
    assert step(status, receipt=RECEIPT, delete_after=delete_after, now=ARCHIVED_AT + age) is expected


def test_deleted_before_archived_is_left_to_the_audit() -> None:
    """A recording that was deleted at Twilio and never archived can't be helped by any step."""
    assert step("deleted") is Step.NOTHING


@given(
    status=st.none()
    | st.sampled_from(["completed", "absent", "failed", "deleted", "processing"])
    | st.text(min_size=1),
    callback_status=st.none() | st.text(),
    external=st.booleans(),
    delete_after=st.none() | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36500)),
)
def test_nothing_is_deleted_without_a_receipt(
    status: str | None, callback_status: str | None, external: bool, delete_after: timedelta | None
) -> None:
    """Without a receipt no observation at all leads to a deletion."""
    decided = step(
        status, callback_status=callback_status, stored_externally=external, delete_after=delete_after, now=ARCHIVED_AT
    )
    assert decided is not Step.DELETE


@pytest.mark.parametrize("status", ["completed", "deleted"])
@pytest.mark.parametrize("delete_after", [AT_ONCE, NEVER])
def test_quarantine_of_an_archived_recording_is_resolved_first(status: str, delete_after: timedelta | None) -> None:
    """What is both archived and in quarantine is compared once more before anything else."""
    assert step(status, receipt=RECEIPT, in_quarantine=True, delete_after=delete_after) is Step.RESOLVE


def test_quarantine_of_what_twilio_has_forgotten_is_resolved_too() -> None:
    """Whether receipt and media agree is seen in S3 alone: Twilio's 404 keeps nothing in quarantine."""
    assert step(None, receipt=RECEIPT, in_quarantine=True) is Step.RESOLVE


def test_recording_in_quarantine_is_tried_again() -> None:
    """A recording in quarantine that is not archived yet is archived as any other."""
    assert step("completed", in_quarantine=True) is Step.ARCHIVE


@pytest.mark.parametrize("status", [None, "completed", "deleted", "absent", "processing"])
@pytest.mark.parametrize("receipt", [None, RECEIPT], ids=["unarchived", "archived"])
def test_quarantine_at_rest_is_left_to_a_person(status: str | None, receipt: Receipt | None) -> None:
    """A recording that failed too often is left alone until its daily try."""
    assert step(status, receipt=receipt, in_quarantine=True, rests=True) is Step.NOTHING


def test_every_allowed_delay_can_be_added() -> None:
    """The longest delay that the settings accept is still a date."""
    assert not deletion_is_due(RECEIPT, timedelta(days=36500), ARCHIVED_AT)
