"""Twilio's own Python SDK works against the simulator as it would against Twilio."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from twilio.base.exceptions import TwilioRestException, TwilioServiceException

from deploy.local.twilio import Account, Simulator
from tests.integration.simulator_tools import sdk

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account() -> Account:
    return Account(auth_tokens=["primary", "secondary"])


@pytest.fixture
def sim(account: Account, clock: Clock) -> Iterator[Simulator]:
    with Simulator(accounts=[account], clock=clock) as running:
        yield running


def test_lists_over_several_pages_newest_first(sim: Simulator, account: Account) -> None:
    """Seven recordings at two a page are four pages, each recording once, newest first."""
    made = [sim.record(account.sid, date_created=NOW - timedelta(minutes=9 - i)).sid for i in range(7)]
    listed = [recording.sid for recording in sdk(sim, account).recordings.list(page_size=2)]
    assert listed == made[::-1]
    assert [event.endpoint for event in sim.timeline] == ["list"] * 4


def test_paging_is_stable_while_recordings_come_and_go(sim: Simulator, account: Account) -> None:
    """What is recorded or deleted between two pages neither repeats nor hides another recording."""
    made = [sim.record(account.sid, date_created=NOW - timedelta(minutes=9 - i)) for i in range(6)]
    page = sdk(sim, account).recordings.page(page_size=2)
    first = [recording.sid for recording in page]
    for _ in range(3):
        sim.record(account.sid)
    sim.delete(made[4])  # the last one of the first page, which the PageToken names
    second = page.next_page()
    third = second.next_page()
    assert first + [r.sid for r in second] + [r.sid for r in third] == [r.sid for r in reversed(made)]
    assert third.next_page() is None


def test_recordings_of_one_second_are_paged_completely(sim: Simulator, account: Account) -> None:
    """Twenty recordings with the same date are each listed once."""
    made = {sim.record(account.sid, date_created=NOW).sid for _ in range(20)}
    listed = [recording.sid for recording in sdk(sim, account).recordings.list(page_size=3)]
    assert len(listed) == 20
    assert set(listed) == made


def test_filters_by_call_and_conference(sim: Simulator, account: Account) -> None:
    """CallSid and ConferenceSid find the recordings of one call or conference, at the top and below it."""
    client = sdk(sim, account)
    call, conference, _ = (sim.record(account.sid, kind) for kind in ("call", "conference", "call"))
    of_call = client.recordings.list(call_sid=call.call_sid)
    of_conference = client.recordings.list(conference_sid=conference.conference_sid)
    assert [r.sid for r in of_call] == [call.sid]
    assert [r.sid for r in of_conference] == [conference.sid]
    assert [r.sid for r in client.calls(call.call_sid).recordings.list()] == [call.sid]
    below = client.conferences(conference.conference_sid).recordings.list()
    assert [r.sid for r in below] == [conference.sid]


def test_filters_by_date(sim: Simulator, account: Account) -> None:
    """DateCreated is a GMT day; before and after are inclusive and take days as midnights, and timestamps."""
    client = sdk(sim, account)
    days = [datetime(2026, 11, 20 + i, 12, 30, tzinfo=UTC) for i in range(3)]
    sids = [sim.record(account.sid, date_created=day).sid for day in days]

    def found(**filters: object) -> list[str]:
        return [recording.sid for recording in client.recordings.list(**filters)][::-1]

    assert found(date_created=date(2026, 11, 21)) == [sids[1]]
    assert found(date_created=datetime(2026, 11, 21, 23, 0, tzinfo=UTC)) == [sids[1]]
    assert found(date_created="2026-11-22") == [sids[2]]
    assert found(date_created_after=date(2026, 11, 21)) == sids[1:]
    assert found(date_created_before=date(2026, 11, 21)) == sids[:1]
    assert found(date_created_after=days[1], date_created_before=days[1]) == [sids[1]]
    assert found(date_created_after=days[1] + timedelta(seconds=1)) == [sids[2]]
    assert found(date_created_after="2026-11-21T12:30:00Z", date_created_before="2026-11-22") == [sids[1]]


def test_filters_survive_paging(sim: Simulator, account: Account) -> None:
    """The next page of a filtered list is filtered likewise."""
    call = sim.place_call(account.sid)
    mine = [sim.record(account.sid, call=call).sid for _ in range(3)]
    for _ in range(3):
        sim.record(account.sid)
    listed = sdk(sim, account).recordings.list(call_sid=call.sid, date_created_after=date(2026, 11, 23), page_size=1)
    assert [recording.sid for recording in listed] == mine[::-1]


def test_a_fetched_recording_has_its_types(sim: Simulator, account: Account) -> None:
    """Dates parse as UTC, the number of channels is a number, duration and price are strings."""
    made = sim.record(account.sid, seconds=12.3)
    fetched = sdk(sim, account).recordings(made.sid).fetch()
    assert fetched.date_created == fetched.start_time == NOW - timedelta(seconds=13)
    assert fetched.date_updated == NOW
    assert (fetched.channels, fetched.duration, fetched.status) == (2, "12", "completed")
    assert isinstance(fetched.price, str)
    assert fetched.encryption_details is None
    assert fetched.error_code is None


def test_a_deleted_recording_is_only_found_when_asked_for(sim: Simulator, account: Account) -> None:
    """After a DELETE the metadata says `deleted`, and shows in fetch and list only with IncludeSoftDeleted."""
    client = sdk(sim, account)
    kept, made = sim.record(account.sid), sim.record(account.sid)
    assert client.recordings(made.sid).delete()
    with pytest.raises(TwilioRestException) as refused:
        client.recordings(made.sid).fetch()
    assert (refused.value.status, refused.value.code) == (404, 20404)
    assert client.recordings(made.sid).fetch(include_soft_deleted=True).status == "deleted"
    assert [r.sid for r in client.recordings.list()] == [kept.sid]
    assert [r.sid for r in client.recordings.list(include_soft_deleted=True)] == [made.sid, kept.sid]
    assert made.deleted_at == NOW


def test_deleting_twice_is_not_found(sim: Simulator, account: Account) -> None:
    """A second DELETE answers 404 (20404)."""
    client, made = sdk(sim, account), sim.record(account.sid)
    assert client.recordings(made.sid).delete()
    with pytest.raises(TwilioRestException) as refused:
        client.recordings(made.sid).delete()
    assert (refused.value.status, refused.value.code) == (404, 20404)


@pytest.mark.parametrize("status", ["in-progress", "paused", "processing", "absent"])
def test_only_completed_recordings_can_be_deleted(sim: Simulator, account: Account, status: str) -> None:
    """A DELETE of anything but a completed recording is refused with 20009 and changes nothing."""
    made = sim.record(account.sid, status=status)
    with pytest.raises(TwilioRestException) as refused:
        sdk(sim, account).recordings(made.sid).delete()
    assert refused.value.code == 20009
    assert 400 <= refused.value.status < 500
    assert made.status == status


def test_metadata_of_a_deleted_recording_lasts_40_days(sim: Simulator, account: Account, clock: Clock) -> None:
    """A second before the 40 days are over it is still there, then it is gone from fetch and list."""
    client, made = sdk(sim, account), sim.record(account.sid)
    client.recordings(made.sid).delete()
    clock.now = NOW + timedelta(days=40, seconds=-1)
    assert client.recordings(made.sid).fetch(include_soft_deleted=True).status == "deleted"
    clock.now = NOW + timedelta(days=40)
    with pytest.raises(TwilioRestException):
        client.recordings(made.sid).fetch(include_soft_deleted=True)
    assert client.recordings.list(include_soft_deleted=True) == []


def test_a_recording_that_is_not_deleted_is_listed_for_ever(sim: Simulator, account: Account, clock: Clock) -> None:
    """The 40 days count from a deletion, not from the recording."""
    made = sim.record(account.sid)
    clock.now = NOW + timedelta(days=4000)
    assert [r.sid for r in sdk(sim, account).recordings.list()] == [made.sid]


def test_starts_pauses_resumes_and_stops_a_recording(sim: Simulator, account: Account) -> None:
    """A live recording goes through its statuses, fetches as `processing` meanwhile, and ends completed."""
    client, call = sdk(sim, account), sim.place_call(account.sid, seconds=7)
    live = client.calls(call.sid).recordings
    started = live.create(recording_channels="dual")
    assert (started.status, started.duration, started.price) == ("in-progress", None, None)
    assert started.source == "StartCallRecordingAPI"
    assert live(started.sid).update(status="paused", pause_behavior="skip").status == "paused"
    assert live(started.sid).fetch().status == "processing"
    assert sim.recordings[started.sid].status == "paused"
    assert live(started.sid).update(status="in-progress").status == "in-progress"
    assert live("Twilio.CURRENT").update(status="stopped").status == "stopped"
    ended = client.recordings(started.sid).fetch()
    assert (ended.status, ended.duration, ended.call_sid) == ("completed", "7", call.sid)


def test_twilio_current_needs_exactly_one_active_recording(sim: Simulator, account: Account) -> None:
    """Twilio.CURRENT finds nothing on a call without a recording, and does not choose between two."""
    client, call = sdk(sim, account), sim.place_call(account.sid)
    live = client.calls(call.sid).recordings
    with pytest.raises(TwilioRestException) as none:
        live("Twilio.CURRENT").update(status="paused")
    live.create()
    live.create()
    with pytest.raises(TwilioRestException) as two:
        live("Twilio.CURRENT").update(status="paused")
    assert (none.value.status, two.value.status) == (404, 400)


def test_a_conference_recording_pauses_but_does_not_stop(sim: Simulator, account: Account) -> None:
    """`stopped` is refused for conferences; the recording completes when the conference ends."""
    call = sim.place_call(account.sid, conference=True)
    made = sim.record(account.sid, "conference", call=call, status="in-progress")
    live = sdk(sim, account).conferences(call.conference_sid).recordings
    assert live("Twilio.CURRENT").update(status="paused").status == "paused"
    with pytest.raises(TwilioRestException) as refused:
        live(made.sid).update(status="stopped")
    assert refused.value.status == 400
    sim.end_call(call)
    assert live(made.sid).fetch().status == "completed"


def test_an_ended_recording_or_call_cannot_be_changed(sim: Simulator, account: Account) -> None:
    """Pausing a completed recording and recording an ended call are refused."""
    client, call = sdk(sim, account), sim.place_call(account.sid)
    made = client.calls(call.sid).recordings.create()
    sim.end_call(call)
    with pytest.raises(TwilioRestException) as paused:
        client.calls(call.sid).recordings(made.sid).update(status="paused")
    with pytest.raises(TwilioRestException) as started:
        client.calls(call.sid).recordings.create()
    assert (paused.value.status, started.value.status) == (400, 400)


def test_lists_and_fetches_transcriptions(sim: Simulator, account: Account) -> None:
    """A transcription is listed below its recording; an unfinished one has no text and may progress."""
    client, made = sdk(sim, account), sim.record(account.sid)
    done = sim.add_transcription(made, text="Good morning.")
    unfinished = sim.add_transcription(made, status="in-progress")
    listed = {each.sid: each for each in client.recordings(made.sid).transcriptions.list()}
    assert listed[done["sid"]].transcription_text == "Good morning."
    assert listed[unfinished["sid"]].transcription_text is None
    unfinished["status"] = "failed"
    assert client.recordings(made.sid).transcriptions(unfinished["sid"]).fetch().status == "failed"
    assert client.transcriptions(done["sid"]).fetch().recording_sid == made.sid


def test_deleting_a_recording_breaks_an_unfinished_transcription(sim: Simulator, account: Account) -> None:
    """Deleting the recording before its transcription has finished makes that fail (13618)."""
    client, made = sdk(sim, account), sim.record(account.sid)
    unfinished = sim.add_transcription(made, status="in-progress")
    done = sim.add_transcription(made)
    client.recordings(made.sid).delete()
    assert (unfinished["status"], done["status"]) == ("failed", "completed")


def test_lists_and_fetches_add_on_results(sim: Simulator, account: Account) -> None:
    """An add-on's result is listed below its recording with its payloads, whose data is a redirect away."""
    client, made = sdk(sim, account), sim.record(account.sid)
    sim.add_add_on_result(made, data=[{"words": 3}])
    sim.add_add_on_result(made, status="in-progress")
    results = client.recordings(made.sid).add_on_results.list()
    assert [each.status for each in results] == ["completed", "in-progress"]
    assert results[1].date_completed is None
    fetched = client.recordings(made.sid).add_on_results(results[0].sid).fetch()
    (payload,) = fetched.payloads.list()
    assert payload.content_type == "application/json"
    assert fetched.payloads(payload.sid).fetch().sid == payload.sid
    assert fetched.payloads(payload.sid).data().fetch().redirect_to.startswith(sim.url)


def test_errors_come_as_the_sdk_understands_them(account: Account) -> None:
    """Both JSON shapes of an error become the SDK's exceptions with Twilio's code."""
    with Simulator(accounts=[account]) as classic, pytest.raises(TwilioRestException) as plain:
        sdk(classic, account).recordings("RE" + "0" * 32).fetch()
    with (
        Simulator(accounts=[account], error_shape="problem") as modern,
        pytest.raises(TwilioServiceException) as problem,
    ):
        sdk(modern, account).recordings("RE" + "0" * 32).fetch()
    assert plain.value.code == problem.value.code == 20404


def test_lists_subaccounts(account: Account) -> None:
    """A parent sees itself and its subaccounts with their status; a subaccount sees itself."""
    sub = Account(parent=account.sid, friendly_name="Branch", status="active")
    closed = Account(parent=account.sid, status="closed")
    with Simulator(accounts=[account, sub, closed, Account()]) as sim:
        client = sdk(sim, account)
        seen = {each.sid: each.status for each in client.api.v2010.accounts.list()}
        assert seen == {account.sid: "active", sub.sid: "active", closed.sid: "closed"}
        active = client.api.v2010.accounts.list(status="active")
        assert {each.sid for each in active} == {account.sid, sub.sid}
        assert client.api.v2010.accounts(sub.sid).fetch().friendly_name == "Branch"
        assert [each.sid for each in sdk(sim, sub).api.v2010.accounts.list()] == [sub.sid]
