"""The judge of the model notices each wrong that is done before its eyes, and nothing where none is done."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.queue import DELETE_TASK
from tests.model import events
from tests.model.clock import virtual_time
from tests.model.judge import Judge
from tests.model.kinds import recording_of
from tests.model.layout import Keys
from tests.model.recordings import Recording
from tests.model.rest import drain, unfinished
from tests.model.s3 import Version
from tests.model.schedule import Strand, this_strand
from tests.model.variants import API_KEY, API_SECRET, PLAIN, TOKENS, VARIANTS
from tests.model.wire import basic_auth
from tests.model.world import SWEEP_EVERY_S, World, judged_logs

Act = Callable[[World, Recording], object]
_NAMED = {variant.name: variant for variant in VARIANTS}


def lived(kind: str, variant: str, act: Act, *before: Act, meanwhile: Act | None = None) -> list[str]:
    """Let a recording come to its end after `before`; then let a worker `act`, and return what it is blamed for.

    `meanwhile` is done by somebody else before that.
    """
    with virtual_time() as shown:
        world = World(shown, f"{kind} {variant}", _NAMED[variant], slots=1)
        with judged_logs(world.judge):
            recording = recording_of(kind, 1, world.clock.moment(), world.random)
            world.add(recording)
            for each in before:
                each(world, recording)
            process = world.start("worker")
            world.call_back(recording.callback("completed"), TOKENS[recording.account_sid][0])
            drain(world)
            assert not world.judge.violations
            if meanwhile is not None:
                meanwhile(world, recording)
            world._begin(process, "what it should not", lambda: act(world, recording))
        return world.judge.violations


def document(world: World, recording: Recording, collection: str, extension: str = "json") -> tuple[str, Any]:
    """Return the key of a document, and what it says."""
    key = Keys(world.variant.prefix, recording).of(collection, extension)
    latest = world.s3.latest(key)
    assert latest is not None
    return key, json.loads(latest.body or b"")


def rewritten(collection: str, change: Callable[[Any], object], extension: str = "json") -> Act:
    """Return what takes a document away and writes it as it should not be, kept as S3 kept it."""

    def act(world: World, recording: Recording) -> None:
        key, said = document(world, recording, collection, extension)
        kept = world.s3.latest(key)
        assert kept is not None
        change(said)
        world.s3._versions.pop(key)
        lock = {"ObjectLockMode": kept.lock_mode, "ObjectLockRetainUntilDate": kept.retain_until}
        asked = {"ChecksumAlgorithm": "SHA256", **lock} if kept.lock_mode else {}
        world.s3.put_object(Bucket="archive", Key=key, Body=json.dumps(said).encode(), **asked)

    return act


def unlocked(collection: str, extension: str = "json") -> Act:
    """Return what takes a document away and writes the same without a retention."""

    def act(world: World, recording: Recording) -> None:
        key, said = document(world, recording, collection, extension)
        world.s3._versions.pop(key)
        world.s3.put_object(Bucket="archive", Key=key, Body=json.dumps(said).encode())

    return act


def described_wrongly(name: str) -> Act:
    """Return what stores the media anew, with other metadata."""

    def act(world: World, recording: Recording) -> None:
        key = Keys("", recording).of("recordings", "wav")
        (media,) = world.s3._versions.pop(key)
        assert name in media.metadata
        world.s3.put_object(
            Bucket="archive", Key=key, Body=media.body, Metadata={**media.metadata, name: "something else"}
        )

    return act


def taken_back(key: Callable[[World, Recording], str]) -> Act:
    return lambda world, recording: world.s3.delete_object(Bucket="archive", Key=key(world, recording))


def version_removed(world: World, recording: Recording) -> None:
    key = Keys("", recording).of("recordings", "wav")
    (media,) = world.s3.versions(key)
    world.s3.delete_object(Bucket="archive", Key=key, VersionId=media.version_id)


def called_absent(shown: int) -> Act:
    """Return what says without a day that there is no audio, after Twilio's answer `shown`, beside a callback."""

    def act(world: World, recording: Recording) -> None:
        recording.rumoured = True
        strand = this_strand()
        assert strand is not None
        strand.shown = shown
        key = f"absences/account={recording.account_sid}/day=undated/{recording.sid}.json"
        said = {"recording_sid": recording.sid, "account_sid": recording.account_sid, "reason": "absent"}
        world.s3.put_object(Bucket="archive", Key=key, Body=json.dumps(said).encode())

    return act


def quarantined_nobody(world: World, recording: Recording) -> None:
    key = Keys("", recording).of("quarantine").replace(recording.sid, "RE" + "0" * 32)
    world.s3.put_object(Bucket="archive", Key=key, Body=b"{}")


WRONGS: dict[str, tuple[str, str, str, Act, tuple[Act, ...]]] = {
    "a receipt that hides the retention": (
        "1: a receipt and the retention",
        "two channels",
        "locked",
        rewritten("receipts", lambda said: said["storage"].update(retain_until=None, object_lock_mode=None)),
        (),
    ),
    "a receipt without the key of the audio": (
        "a receipt that says wrongly ['encryption']",
        "encrypted",
        "plain",
        rewritten("receipts", lambda said: said.update(encryption=None)),
        (),
    ),
    "a receipt of another call": (
        "a receipt that says wrongly ['call_sid']",
        "two channels",
        "plain",
        rewritten("receipts", lambda said: said.update(call_sid="CA" + "0" * 32)),
        (),
    ),
    "media of somebody else": ("metadata that say", "short", "plain", described_wrongly("recording-sid"), ()),
    "media that nobody can decrypt": (
        "metadata that say",
        "encrypted",
        "plain",
        described_wrongly("encryption-cek"),
        (),
    ),
    "media with another digest": ("metadata that say", "short", "plain", described_wrongly("sha256"), ()),
    "a proof that anybody may remove": ("is kept until None", "short", "locked", unlocked("deletions"), ()),
    "a request that anybody may remove": (
        "is kept until None",
        "short",
        "locked",
        unlocked("deletions", "requested.json"),
        (),
    ),
    "an absence that anybody may remove": ("is kept until None", "too short", "locked", unlocked("absences"), ()),
    "a request by another receipt": (
        "is about another receipt",
        "short",
        "plain",
        rewritten("deletions", lambda said: said["receipt"].update(version_id="v0"), "requested.json"),
        (),
    ),
    "a proof of another recording": (
        "is about another receipt",
        "short",
        "plain",
        rewritten("deletions", lambda said: said.update(recording_sid="RE" + "0" * 32)),
        (),
    ),
    "an absence for another reason": (
        "2: an absence for another reason",
        "stored externally",
        "plain",
        rewritten("absences", lambda said: said.update(reason="absent")),
        (),
    ),
    "an absence of what Twilio shows": ("2: an absence of a recording", "short", "plain", called_absent(200), ()),
    "the stop switch lifted": (
        "3: removed control/deletions-paused.json",
        "short",
        "plain",
        taken_back(lambda _world, _recording: events.PAUSED),
        (events.paused,),
    ),
    "a hold forgotten": (
        "3: removed control/holds/",
        "short",
        "plain",
        taken_back(lambda _world, recording: Keys("", recording).hold),
        (events.hold_begun,),
    ),
    "a version of the media removed": ("3: removed recordings/", "short", "plain", version_removed, ()),
    "a quarantine of nobody": ("7: quarantine/", "short", "plain", quarantined_nobody, ()),
}


@pytest.mark.parametrize("wrong", WRONGS.values(), ids=WRONGS.keys())
def test_a_wrong_is_noticed(wrong: tuple[str, str, str, Act, tuple[Act, ...]]) -> None:
    """A worker does one thing that it should not, and is blamed for that."""
    said, kind, variant, act, before = wrong
    blamed = lived(kind, variant, act, *before)
    assert any(said in each for each in blamed), blamed


def test_what_is_right_is_not_blamed() -> None:
    """The same documents, written once more as they were, are no wrong; nor is an absence that Twilio's 404 backs."""
    for kind, variant, collection in (
        ("two channels", "locked", "receipts"),
        ("encrypted", "plain", "receipts"),
        ("short", "plain", "deletions"),
        ("stored externally", "plain", "absences"),
    ):
        assert lived(kind, variant, rewritten(collection, lambda said: None)) == []
    assert lived("short", "plain", called_absent(404)) == []


@pytest.mark.parametrize("meanwhile", [events.overwritten, events.removed])
def test_a_receipt_is_about_the_version_that_it_names(meanwhile: Act) -> None:
    """Whoever writes upon the media, or removes them, leaves the version that was looked at; a lie about it is one."""
    right = rewritten("receipts", lambda said: None)
    wrong = rewritten("receipts", lambda said: said["media"].update(bytes=1))
    assert lived("short", "plain", right, meanwhile=meanwhile) == []
    assert lived("short", "plain", wrong, meanwhile=meanwhile) != []


def test_what_changed_after_the_last_look_is_nobodys_fault() -> None:
    """Not even if the worker asks for the bucket's default retention then, and has to try its next token."""
    with virtual_time() as shown:
        world = World(shown, 1, _NAMED["locked"], slots=1)
        with judged_logs(world.judge):
            recording = recording_of("short", 1, world.clock.moment(), world.random)
            world.add(recording)
            events.paused(world)
            first = world.start("first")
            world.call_back(recording.callback("completed"), TOKENS[recording.account_sid][0])
            drain(world)
            world.kill(first)
            events.resumed(world)
            events.rotated(world)
            day = f"{recording.created:%Y-%m-%d}"
            message = {"account_sid": recording.account_sid, "recording_sid": recording.sid, "day": day}
            world.queue.put(DELETE_TASK, json.dumps(message))
            strand = world.pull(world.start("second"))
            assert strand is not None
            while not strand.dead:
                if strand.pending is not None and strand.pending.target.endswith(events.PAUSED):
                    events.forged(world, recording)
                world.clock.now = max(world.clock.now, strand.wakes_at)
                world.go_on(strand)
            assert recording.deleted_by_us
            assert world.judge.violations == []


@pytest.mark.parametrize(
    "secret",
    [API_SECRET, basic_auth(API_KEY, API_SECRET), *(basic_auth(sid, tokens[0]) for sid, tokens in TOKENS.items())],
)
def test_credentials_are_noticed_as_they_go_over_the_wire(secret: str) -> None:
    """A secret in a line of the log is one, also in the header that carries it."""
    judge = Judge(PLAIN, lambda: pytest.fail("no time is asked for"), lambda what: None)
    judge.logged({"event": "asked", "level": "info", "header": secret})
    assert [each[:2] for each in judge.violations] == ["6:"]


@pytest.mark.parametrize("deed", [events.removed, events.overwritten, events.encrypted_anew, events.forged])
def test_a_mismatch_that_nobody_is_told_of_is_noticed(deed: Act) -> None:
    """Media or receipts that are changed before their source is deleted are no end: somebody must have been called."""
    with virtual_time() as shown:
        world = World(shown, 1)
        with judged_logs(world.judge):
            recording = recording_of("short", 1, world.clock.moment(), world.random)
            world.add(recording)
            events.paused(world)
            world.start("worker")
            world.call_back(recording.callback("completed"), TOKENS[recording.account_sid][0])
            drain(world)
            events.resumed(world)
            deed(world, recording)
            assert unfinished(world) == [f"{recording.sid} disagrees with its receipt, and nobody was called"]
            world.clock.pass_(SWEEP_EVERY_S)
            world.beat()
            drain(world)
            assert unfinished(world) == []
            assert recording.deleted is None


@pytest.mark.parametrize(("attempts", "level"), [(4, "error"), (5, "warning")])
def test_a_call_for_a_person_comes_in_time(attempts: int, level: str) -> None:
    """The fifth failure of the content calls for one, and no failure before."""
    judge = Judge(PLAIN, lambda: pytest.fail("no time is asked for"), lambda what: None)
    judge.logged({"event": "recording_quarantined", "level": level, "attempts": attempts})
    assert [each[:2] for each in judge.violations] == ["2:"]


def test_callbacks_are_forged_in_every_way() -> None:
    """Without a signature, with one of nobody's or of another account's, for another account, and for other fields."""
    with virtual_time() as shown:
        world = World(shown, 1)
        with judged_logs(world.judge):
            world.add(recording_of("short", 1, world.clock.moment(), world.random))
            for _ in range(100):
                events.forged_callback(world)
    said = {str(entry.what) for entry in world.trace if str(entry.what).startswith("the callback: ")}
    assert len(said) == 6
    assert not world.judge.violations


def test_a_violation_stands_where_it_was_seen() -> None:
    """Whoever reads a history finds in it what was done just before."""
    with virtual_time() as shown:
        world = World(shown, 1)
        world.note("before")
        world.judge.changed(Version("x", "v1", b"", "", world.clock.moment()), None)
        assert len(world.trace) == 1  # somebody else's doing
        process = world.start("worker")
        strand = world._begin(process, "x", lambda: world.s3.put_object(Bucket="archive", Key="x", Body=b""))
        assert isinstance(strand, Strand)
        assert [str(entry.what).partition(":")[0] for entry in world.trace[-2:]] == [
            "begins x",
            "VIOLATION a key that is not in the layout",
        ]
