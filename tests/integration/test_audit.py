"""Every state of the audit, produced with real S3 and the simulator, and found in table, JSON, CSV and HTML."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.queue import AUDIT_TASK, Publisher
from app.receipt import iso
from app.settings import BeatSettings, WorkerSettings, load
from deploy.local.processes import wait_until
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, ErrorStatus, Match, SimRecording, Simulator
from tests.integration.bucket import Bucket
from tests.integration.command_line import CommandLine, on_terminal
from tests.integration.workbench import Workbench
from workers.absence import record_absence
from workers.audit import Audit
from workers.celery_app import create_beat
from workers.daily_audit import DailyAudit, report_key
from workers.errors import ContentError
from workers.holds import place_hold
from workers.judgement import State
from workers.quarantine import record_failure

HOUR = timedelta(hours=1)
Produce = Callable[[Workbench], SimRecording]


@pytest.fixture
def bench(workbench: Workbench, archiver: CommandLine) -> Workbench:
    archiver.use(workbench)
    return workbench


def old(bench: Workbench, **call: object) -> SimRecording:
    """Let a recording happen an hour ago (but today or yesterday, which every audit here covers)."""
    return bench.record(date_created=datetime.now(UTC) - HOUR, **call)


def ok(bench: Workbench) -> SimRecording:
    recording = old(bench)
    bench.archived(recording)
    bench.delete(recording)
    return recording


def kept(bench: Workbench) -> SimRecording:
    recording = old(bench)
    bench.archived(recording)
    return recording


def in_flight(bench: Workbench) -> SimRecording:
    return bench.record(seconds=0.0)


def missing(bench: Workbench) -> SimRecording:
    return old(bench)


def no_audio(bench: Workbench) -> SimRecording:
    recording = old(bench, status="absent", error_code=16101)
    source = bench.twilio.fetch(recording.account_sid, recording.sid)
    record_absence(bench.archive, bench.filing(recording), source, None)
    return recording


def failed_at_source(bench: Workbench) -> SimRecording:
    return old(bench, status="failed", error_code=16105)


def stuck_at_source(bench: Workbench) -> SimRecording:
    return bench.record(date_created=datetime.now(UTC) - 2 * HOUR, status="processing")


def expired(bench: Workbench) -> SimRecording:
    recording = ok(bench)
    key = bench.filing(recording).receipt
    bench.tamper(key, "storage.retain_until", iso(datetime.now(UTC) - HOUR))
    bench.bucket.client.delete_object(Bucket=bench.bucket.name, Key=bench.filing(recording).media("wav"))
    return recording


def deleted_elsewhere(bench: Workbench) -> SimRecording:
    recording = kept(bench)
    bench.simulator.delete(recording)
    return recording


def lost(bench: Workbench) -> SimRecording:
    recording = old(bench)
    bench.simulator.delete(recording)
    return recording


def mismatch(bench: Workbench) -> SimRecording:
    recording = ok(bench)
    bench.bucket.client.delete_object(Bucket=bench.bucket.name, Key=bench.filing(recording).media("wav"))
    return recording


def externally_stored(bench: Workbench) -> SimRecording:
    return old(bench, external=True)


def quarantined(bench: Workbench) -> SimRecording:
    recording = old(bench)
    record_failure(bench.archive, bench.filing(recording), ContentError("media_cut", "cut"), 5)
    return recording


def aged_out(bench: Workbench) -> SimRecording:
    recording = ok(bench)
    recording.deleted_at = datetime.now(UTC) - timedelta(days=41)
    return recording


PRODUCERS: dict[State, Produce] = {
    State.OK: ok,
    State.KEPT: kept,
    State.IN_FLIGHT: in_flight,
    State.MISSING: missing,
    State.NO_AUDIO: no_audio,
    State.FAILED_AT_SOURCE: failed_at_source,
    State.STUCK_AT_SOURCE: stuck_at_source,
    State.EXPIRED: expired,
    State.DELETED_ELSEWHERE: deleted_elsewhere,
    State.LOST: lost,
    State.MISMATCH: mismatch,
    State.EXTERNALLY_STORED: externally_stored,
    State.QUARANTINED: quarantined,
    State.AGED_OUT: aged_out,
}


def test_every_state_has_a_producer() -> None:
    """No state of the contract is left out below."""
    assert set(PRODUCERS) == set(State)


def test_every_state_is_found_in_table_json_csv_and_html(
    bench: Workbench, archiver: CommandLine, tmp_path: Path
) -> None:
    """A recording in each of the fourteen states is reported under its state's name in all four forms."""
    made = {state: produce(bench) for state, produce in PRODUCERS.items()}
    ran = archiver("audit", *(f"--report=r.{kind}" for kind in ("json", "csv", "html")))
    assert ran.code == 4

    document = json.loads((tmp_path / "r.json").read_text())
    assert set(document) == {"recordings", "days", "totals", "checked"}
    by_sid = {each["recording_sid"]: each for each in document["recordings"]}
    assert {state: by_sid[recording.sid]["state"] for state, recording in made.items()} == {s: s.value for s in State}
    assert {state: document["totals"][state] for state in State} == dict.fromkeys(State, 1)
    assert document["totals"]["recordings"] == sum(sum(day["states"].values()) for day in document["days"]) == 14

    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert {row["recording_sid"]: row["state"] for row in rows} == {r.sid: s.value for s, r in made.items()}
    assert {row["account_sid"] for row in rows} == {bench.account.sid}

    page = (tmp_path / "r.html").read_text()
    for state in State:
        assert re.search(rf">{state}</td><td class=\"n\">1</td>", page), state
        assert re.search(rf"^{state} +1 ", ran.out, re.MULTILINE), state
    for finding in by_sid.values():
        if finding["discrepancy"]:
            assert finding["recording_sid"] in page
            assert finding["recording_sid"] in ran.out
            assert finding["why"]


def test_json_goes_to_standard_output(bench: Workbench, archiver: CommandLine) -> None:
    """With --json the data is one JSON document that says what was checked, when and by which version."""
    recording = ok(bench)
    ran = archiver("audit", "--json")
    assert ran.code == 0
    assert [each["recording_sid"] for each in ran.json["recordings"]] == [recording.sid]
    checked = ran.json["checked"]
    assert checked["complete"] is True
    assert checked["account_sids"] == [bench.account.sid]
    assert checked["began_at"] <= checked["finished_at"]
    assert checked["archiver_version"]
    (day,) = [day for day in ran.json["days"] if day["expected"]]
    assert (day["expected"], day["archived"], day["verified"], day["gone"], day["lost"]) == (1, 1, 1, 1, 0)
    assert len(ran.json["days"]) == 8


def test_an_empty_audit_is_valid_everywhere(bench: Workbench, archiver: CommandLine, tmp_path: Path) -> None:
    """Without a recording the reports are well-formed and say that there is nothing."""
    ran = archiver("audit", "--since=2020-01-01", "--until=2020-01-02", "--report=e.json", "--report=e.csv")
    assert ran.code == 0
    document = json.loads((tmp_path / "e.json").read_text())
    assert (document["recordings"], len(document["days"]), document["totals"]["recordings"]) == ([], 2, 0)
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1


def test_read_data_finds_other_bytes(bench: Workbench, archiver: CommandLine) -> None:
    """A media object whose bytes were exchanged under the same size is found only by reading it again."""
    recording, sound = ok(bench), ok(bench)
    key = bench.filing(recording).media("wav")
    body = bench.bucket.body(key) or b""
    bench.bucket.client.put_object(Bucket=bench.bucket.name, Key=key, Body=body[:-1] + bytes([body[-1] ^ 1]))
    receipt = bench.filed(recording).receipt
    version = bench.bucket.client.head_object(Bucket=bench.bucket.name, Key=key)["VersionId"]
    bench.tamper(bench.filing(recording).receipt, "media.version_id", version)
    assert receipt.media.version_id != version
    assert archiver("audit").code == 0
    ran = archiver("audit", "--json", "--read-data=100%")
    assert ran.code == 4
    states = {each["recording_sid"]: (each["state"], each["read"]) for each in ran.json["recordings"]}
    assert states[recording.sid][0] == "mismatch"
    assert states[sound.sid] == ("ok", True)


def test_the_sample_turns_until_all_is_read(bench: Workbench) -> None:
    """With a share of a fifth every recording is read in five days, and none twice."""
    audit = Audit(bench.settings, bench.twilio, bench.archive, read_share=0.2)
    sids = [f"RE{number:032x}" for number in range(200)]
    today = datetime(2026, 11, 22, 12, tzinfo=UTC)
    chosen = [sid for day in range(5) for sid in sids if audit.is_sampled(sid, today + timedelta(days=day))]
    assert sorted(chosen) == sids


def test_a_list_that_is_not_in_strict_order_around_midnight_is_audited(bench: Workbench, archiver: CommandLine) -> None:
    """Twilio may list the first recording of a day after the last one of the day before."""
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    listed_last, listed_first = (bench.record(date_created=midnight - timedelta(days=1, seconds=s)) for s in (2, 1))
    # What is listed first was created on the day before what is listed last.
    listed_last.date_created = midnight - timedelta(hours=24)
    ran = archiver("audit", "--json", "--since=3d")
    assert {each["recording_sid"] for each in ran.json["recordings"]} == {listed_first.sid, listed_last.sid}
    assert ran.json["checked"]["complete"] is True


def test_a_legal_hold_explains_why_a_deletion_is_overdue(
    make_workbench: Callable[..., Workbench], archiver: CommandLine
) -> None:
    """While a hold is placed the recording is kept for a reason, which the report says."""
    bench = make_workbench(object_lock=True)
    archiver.use(bench)
    recording = kept(bench)
    place_hold(bench.archive, bench.filed(recording), "a case in court")
    ran = archiver("audit", "--json")
    (finding,) = ran.json["recordings"]
    assert (finding["state"], finding["discrepancy"]) == ("kept", False)
    assert "legal hold" in finding["why"]


def test_enqueue_puts_only_unfinished_work_on_the_queue(bench: Workbench, archiver: CommandLine) -> None:
    """With --enqueue what is missing is enqueued, and nothing else is; without it nothing."""
    for produce in (ok, missing, lost, quarantined):
        produce(bench)
    assert "enqueued" not in archiver("audit").err
    assert "enqueued: 1" in archiver("audit", "--enqueue").err


def test_an_account_that_cannot_be_read_is_said_to_be(
    make_workbench: Callable[..., Workbench], archiver: CommandLine, simulator: Simulator
) -> None:
    """One account's outage does not hide the others, and the report does not look complete."""
    simulator.store.accounts["AC" + "c3" * 16] = Account(sid="AC" + "c3" * 16, auth_tokens=["other-token"])
    bench = make_workbench()
    archiver.use(bench)
    recording = ok(bench)
    simulator.inject(ErrorStatus(401, 20003), match=Match(endpoint="list", account_sid="AC" + "c3" * 16), times=None)
    ran = archiver("audit", "--json")
    assert ran.code == 3
    assert [each["recording_sid"] for each in ran.json["recordings"]] == [recording.sid]
    assert ran.json["checked"]["complete"] is False
    assert ran.json["checked"]["unread"][0]["account_sid"] == "AC" + "c3" * 16


def test_active_accounts_that_are_not_configured_are_listed(
    bench: Workbench, archiver: CommandLine, tmp_path: Path
) -> None:
    """A subaccount that nobody configured is named in table, JSON and HTML."""
    stranger = Account(sid="AC" + "d4" * 16, auth_tokens=["x"], parent=bench.account.sid)
    bench.simulator.store.accounts[stranger.sid] = stranger
    ran = archiver("audit", "--report=r.json", "--report=r.html")
    assert stranger.sid in ran.out
    assert json.loads((tmp_path / "r.json").read_text())["checked"]["unconfigured_accounts"] == [stranger.sid]
    assert stranger.sid in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since=yesterday",),
        ("--since=2026-11-22", "--until=2026-11-20"),
        ("--since=0001-01-01",),
        ("--since=1d", "--until=9999-12-31"),
        ("--report=r.csv", "--report=r.csv"),
        ("--read-data=101%",),
        ("--read-data=5",),
        ("--report=r.pdf",),
        ("--report=nowhere/r.csv",),
        ("--account=AC" + "9" * 32,),
        ("--account=nobody",),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_asked(
    bench: Workbench, archiver: CommandLine, arguments: tuple[str, ...]
) -> None:
    """Mistakes on the command line end with 2 and reach neither side."""
    assert archiver("audit", *arguments).code == 2
    assert bench.simulator.timeline == []


def test_an_account_that_is_named_twice_is_audited_once(bench: Workbench, archiver: CommandLine) -> None:
    """Nothing is counted twice."""
    missing(bench)
    ran = archiver("audit", "--json", f"--account={bench.account.sid}", f"--account={bench.account.sid}")
    assert (ran.json["totals"]["recordings"], len(ran.json["recordings"])) == (1, 1)
    assert ran.json["checked"]["account_sids"] == [bench.account.sid]


def test_a_terminal_shows_the_table(bench: Workbench, archiver: CommandLine) -> None:
    """On a terminal of 84 columns the table is shown, states and SIDs whole."""
    recording = lost(bench)
    code, shown = on_terminal("audit", "--since=2d")
    assert code == 4
    assert recording.sid in shown
    assert "deleted at Twilio and not archived" in shown


def test_a_narrow_terminal_shows_all_of_several_accounts(
    make_workbench: Callable[..., Workbench], archiver: CommandLine, simulator: Simulator
) -> None:
    """On 80 columns no day, number, SID or reason is cut; each account has its days."""
    other = Account(sid="AC" + "c4" * 16, auth_tokens=["other-token"])
    simulator.store.accounts[other.sid] = other
    bench = make_workbench()
    archiver.use(bench)
    for produce in (lost, mismatch, kept):
        produce(bench)
    gone = simulator.record(other.sid, seconds=2.0, date_created=datetime.now(UTC) - HOUR)
    simulator.delete(gone)
    code, shown = on_terminal("audit", "--since=1d", columns=80)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    day = f"{gone.date_created:%Y-%m-%d}"
    assert code == 4
    for account_sid, counts in ((bench.account.sid, "3 1 1 2 0 0 1 0"), (other.sid, "1 0 0 1 0 0 1 0")):
        table = shown.partition(f"account {account_sid}\n")[2]
        assert re.search(rf"^{day} +{counts.replace(' ', ' +')} *$", table, re.MULTILINE), table
    assert re.search(r"^all accounts *\n.*\nall +4 +1 +1 +3 +0 +0 +2 +0 *$", shown, re.MULTILINE), shown
    assert f"lost: deleted at Twilio before it was archived (account {other.sid})\n  {day}  {gone.sid}\n" in shown
    assert "mismatch: there is a receipt, and the media that it proves is not in the bucket (account AC" in shown


def daily(bench: Workbench) -> DailyAudit:
    work = bench.work
    return DailyAudit(work.settings, work.twilio, work.archive, work.publisher, work.hints)


def test_the_daily_audit_stores_its_reports_once(
    workbench: Workbench, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three reports are under reports/ of the day; a second run finds them and asks Twilio nothing."""
    bench = workbench.under(REDIS_URL=redis_url, ARCHIVE_PREFIX="calls")
    recording, gone = missing(bench), lost(bench)
    report = daily(bench).run()
    assert report is not None
    today = datetime.now(UTC).date()
    keys = {kind: report_key("calls/", today, kind) for kind in ("json", "csv", "html")}
    assert keys["json"] == f"calls/reports/day={today}/audit.json"
    document = json.loads(bench.bucket.body(keys["json"]) or b"")
    assert {each["recording_sid"]: each["state"] for each in document["recordings"]} == {
        recording.sid: "missing",
        gone.sid: "lost",
    }
    lines = list(csv.reader(io.StringIO((bench.bucket.body(keys["csv"]) or b"").decode())))
    assert len(lines) == 3
    assert gone.sid in (bench.bucket.body(keys["html"]) or b"").decode()
    assert bench.work.hints.queue_depth("archive") == 1
    logged = capsys.readouterr()
    assert "recording_lost" in logged.out + logged.err

    asked = len(bench.simulator.timeline)
    assert daily(bench).run() is None
    assert len(bench.simulator.timeline) == asked


def test_a_daily_audit_that_ends_early_leaves_no_report(workbench: Workbench, redis_url: str) -> None:
    """Nothing is visible while a report can't be written, and the next run makes all of them."""
    bench = workbench.under(REDIS_URL=redis_url)
    missing(bench)
    with bench.meanwhile("PutObject", "audit.html"), pytest.raises(Exception, match="s3_refused"):
        daily(bench).run()
    today = datetime.now(UTC).date()
    assert bench.bucket.body(report_key("", today, "html")) is None
    assert daily(bench).run() is not None
    assert bench.bucket.body(report_key("", today, "html")) is not None


def test_a_worker_makes_the_daily_audit(
    redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]
) -> None:
    """What beat asks for reaches a worker, which stores the reports and enqueues what is missing."""
    database = next(databases)
    with Stack(
        ("worker",), settings={"SWEEP_GRACE": "1s"}, redis_server=redis_server, s3_server=s3_server, database=database
    ) as stack:
        account_sid = next(iter(stack.simulator.accounts))
        recording = stack.simulator.record(account_sid, seconds=1.0, date_created=datetime.now(UTC) - HOUR)
        Publisher(load(WorkerSettings, stack.environment)).publish(AUDIT_TASK)
        bucket = Bucket(s3_server.client(), stack.bucket)
        key = report_key("", datetime.now(UTC).date(), "html")
        page = wait_until(lambda: bucket.body(key), timeout_s=30, what="the report")
        assert page is not None
        assert b"missing" in page
        wait_until(lambda: recording.deleted_at is not None, timeout_s=30, what="what was missing to be archived")


def test_a_sweep_may_wait_for_an_hour() -> None:
    """A worker whose clock is up to an hour ahead of the scheduler's takes no sweep for one that nobody wants."""
    celery = create_beat(load(BeatSettings, {"REDIS_URL": "redis://127.0.0.1:1/0", "SWEEP_INTERVAL": "5m"}))
    assert celery.conf.beat_schedule["sweep"]["options"]["expires"] == 3600 + 300


def test_the_audit_is_asked_for_every_hour_on_a_queue_of_its_own() -> None:
    """A scheduler that forgets, and was down at the hour, misses no day; what nobody takes expires before the next."""
    celery = create_beat(load(BeatSettings, {"REDIS_URL": "redis://127.0.0.1:1/0"}))
    entry = celery.conf.beat_schedule["audit"]
    assert entry["task"] == AUDIT_TASK
    assert entry["schedule"].hour == set(range(24))
    assert len(entry["schedule"].minute) == 1
    assert entry["options"]["expires"] <= 3600
    assert celery.conf.task_routes[AUDIT_TASK] == {"queue": "audit"}
