"""`archiver check`: what it says of an installation that is as it should be, and of every planted misconfiguration."""

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from app.receipt import DELETIONS_PAUSED, PAUSE_SCHEMA
from deploy.local.s3_proxy import AnswerLost, IgnoredHeaders, S3Request, S3Response, WithoutChecksums
from deploy.local.s3_proxy import ErrorStatus as S3Error
from deploy.local.s3_proxy import Headers as S3Headers
from deploy.local.s3_proxy import Hook as S3Hook
from deploy.local.servers import RedisServer, S3Server
from deploy.local.stack import Stack
from deploy.local.twilio import Account, ApiError, ErrorStatus, Hook, Match, Request, Response, Simulator
from tests.integration.command_line import ENTRY, CommandLine, on_terminal
from tests.integration.front import Answer, Front, tls_front
from tests.integration.front import Request as FrontRequest
from tests.integration.workbench import Workbench

MAIN, SUB, STRANGER = (f"AC{letter * 32}" for letter in "abc")
KEY = f"SK{'d' * 32}"
TOKENS = ["main-token-one", "main-token-two"]
NOBODY = "redis://127.0.0.1:1/0"


@dataclass(frozen=True)
class Report:
    """What `archiver check --json` said."""

    code: int
    checks: list[dict[str, str]]

    def states(self, *wanted: str) -> dict[str, str]:
        """Return the checks in these states, each as `group: name` with what it is to be mended by."""
        return {f"{each['group']}: {each['name']}": each["mend"] for each in self.checks if each["state"] in wanted}

    def line(self, group: str, name: str) -> dict[str, str]:
        """Return the one check of that name."""
        (found,) = [each for each in self.checks if each["group"] == group and each["name"] == name]
        return found


def accounts() -> list[Account]:
    return [
        Account(sid=MAIN, auth_tokens=list(TOKENS), api_keys={KEY: "key-secret"}),
        Account(sid=SUB, auth_tokens=["sub-token"], parent=MAIN),
    ]


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Return a Twilio with an account and its subaccount, which have a recording each."""
    with Simulator(accounts=accounts()) as simulator:
        for sid in (MAIN, SUB):
            simulator.record(sid, seconds=2.0)
        yield simulator


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    with Front() as front:
        yield front


@contextmanager
def running_behind(
    front: Front, redis_server: RedisServer, s3_server: S3Server, *more: str, database: int = 0, **settings: str
) -> Iterator[Stack]:
    """Run the web process (and `more`) behind a front whose address is its PUBLIC_URL."""
    with (
        Simulator(accounts=accounts()) as simulator,
        Stack(
            ("web", *more),
            settings={"PUBLIC_URL": front.url, "WEB_CONCURRENCY": "1", **settings},
            redis_server=redis_server,
            database=database,
            s3_server=s3_server,
            simulator=simulator,
        ) as stack,
    ):
        front.upstream = stack.port
        yield stack


@pytest.fixture(scope="module")
def running(front: Front, redis_server: RedisServer, s3_server: S3Server, databases: Iterator[int]) -> Iterator[Stack]:
    """Return web and worker as they should be."""
    with running_behind(front, redis_server, s3_server, "worker", database=next(databases)) as stack:
        yield stack


@pytest.fixture
def bench(workbench: Workbench, running: Stack, front: Front, archiver: CommandLine) -> Workbench:
    """Return an installation that is as it should be; `archiver` has its settings in the environment."""
    front.reset()
    archiver.use(workbench)
    archiver.set(
        TWILIO_API_KEY=KEY,
        TWILIO_API_SECRET="key-secret",
        PUBLIC_URL=front.url,
        REDIS_URL=running.redis_url,
        AWS_EC2_METADATA_DISABLED="true",  # whoever takes the credentials away does not want to wait for those
    )
    return workbench


@pytest.fixture
def check(bench: Workbench, archiver: CommandLine) -> Callable[..., Report]:
    """Return `archiver check`, with changed settings."""

    def run(*options: str, **changes: str | None) -> Report:
        archiver.set(**changes)
        ran = archiver("check", "--json", *options)
        text = ran.out + ran.err
        assert not [secret for secret in (*TOKENS, "sub-token", "key-secret", "local-secret-key") if secret in text]
        return Report(ran.code, ran.json["checks"])

    return run


# An installation as it should be

LOCAL = {  # what a local stack can't have: a public address, TLS, a lifecycle, an IAM policy
    "web: address",
    "web: encryption",
    "bucket: unfinished uploads",
    "bucket: deleting media",
}


def test_a_healthy_stack_has_nothing_red(check: Callable[..., Report], archiver: CommandLine) -> None:
    """After a sweep everything is green but what a local stack can't have; the exit code is 0."""
    assert archiver("sweep").code == 0
    report = check()
    assert report.code == 0
    assert set(report.states("amber", "red")) == LOCAL
    assert all(report.states("amber").values())
    assert len(report.states("green")) > 40
    skipped = {f"Twilio {sid}: clock" for sid in (MAIN, SUB)} | {"bucket: Object Lock", "bucket: legal hold"}
    assert set(report.states("skipped")) == skipped | {"notifications: receiver"}


def test_a_healthy_lock_is_tried(
    make_workbench: Callable[..., Workbench], bench: Workbench, check: Callable[..., Report]
) -> None:
    """With Object Lock the probe can't be deleted, a hold can be set, and nothing is left that is locked for years."""
    locked = make_workbench(object_lock=True)
    default = {"DefaultRetention": {"Mode": "COMPLIANCE", "Years": 7}}
    locked.bucket.client.put_object_lock_configuration(
        Bucket=locked.bucket.name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": default}
    )
    report = check(
        ARCHIVE_BUCKET=locked.bucket.name, ARCHIVE_OBJECT_LOCK_MODE="GOVERNANCE", ARCHIVE_RETENTION_DAYS="3000"
    )
    assert report.line("bucket", "lock kept")["state"] == "green"
    assert report.line("bucket", "legal hold")["state"] == "green"
    assert "COMPLIANCE for 2555 days" in report.line("bucket", "Object Lock")["found"]
    assert "BypassGovernance" in report.line("bucket", "lock bypass")["mend"]
    # The local S3 server drops the retention of uploads in parts, which is exactly what is to be found.
    assert set(report.states("red")) == {"bucket: large and locked"}
    puts = [event for event in locked.requests("control/check/") if event.operation == "PutObject"]
    assert puts
    listed = locked.bucket.client.list_object_versions(Bucket=locked.bucket.name)
    assert not listed.get("Versions")


def test_nothing_is_left_in_the_bucket(bench: Workbench, check: Callable[..., Report]) -> None:
    """Every scratch object and its versions are removed, and only the scratch prefix was written to."""
    check("--only", "bucket", ARCHIVE_PREFIX="team/archive")
    written = [event.key for event in bench.requests() if event.operation in ("PutObject", "CreateMultipartUpload")]
    assert written
    assert all(key.startswith("team/archive/control/check/") for key in written)
    listed = bench.bucket.client.list_object_versions(Bucket=bench.bucket.name)
    assert not listed.get("Versions")
    assert not listed.get("DeleteMarkers")
    assert not bench.uploads()


def test_no_write_writes_nothing(bench: Workbench, check: Callable[..., Report]) -> None:
    """With --no-write no request changes the bucket, and the report says that it was not tried."""
    report = check("--only", "bucket", "--no-write")
    assert report.line("bucket", "writes")["state"] == "skipped"
    assert {event.method for event in bench.requests()} <= {"GET", "HEAD"}


def test_nothing_is_enqueued_and_nothing_changed_at_twilio(
    running: Stack, simulator: Simulator, check: Callable[..., Report]
) -> None:
    """The signed callbacks of a check ask for nothing, and Twilio is only read from."""
    check()
    assert {event.method for event in simulator.timeline} == {"GET"}
    assert "callback_answered" in running.web.log.read_text()
    assert '"outcome": "enqueued"' not in running.web.log.read_text()


def test_lines_without_a_terminal(bench: Workbench, archiver: CommandLine) -> None:
    """Where nobody watches, each check is one line with its state first and its mend last."""
    ran = archiver("check")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert all(line.split()[0] in ("green", "amber", "red", "skipped") for line in lines)
    (amber,) = [line for line in lines if "unfinished uploads" in line]
    assert "; mend: add a lifecycle rule" in amber
    assert " green, " in ran.err


def test_a_table_on_a_terminal(bench: Workbench) -> None:
    """On a terminal of 84 columns the groups have headings, mends a line of their own, and nothing is wider."""
    code, shown = on_terminal("check", columns=84)
    assert code == 0
    assert "mend: add a lifecycle rule" in shown
    assert f"Twilio {MAIN}" in shown
    assert "✗" not in shown


# Settings


def test_all_mistakes_in_the_settings_are_listed(check: Callable[..., Report]) -> None:
    """Each mistake is red with its mend and the processes it stops; what can be checked still is; the code is 5."""
    report = check(
        "--no-write", TWILIO_API_SECRET=None, SWEEP_INTERVAL="often", ARCHIVE_BUCKET=None, ARCHIVE_RETENTION_DAYS="30"
    )
    assert report.code == 5
    assert report.states("red") == {
        "settings: TWILIO_API_SECRET": "it belongs to TWILIO_API_KEY",
        "settings: SWEEP_INTERVAL": "must be a duration such as 30s, 5m, 24h or 40d, at most 36500d",
        "settings: ARCHIVE_BUCKET": "set it to the name of your S3 bucket",
        "settings: ARCHIVE_OBJECT_LOCK_MODE": "it belongs to ARCHIVE_RETENTION_DAYS",
    }
    assert report.line("settings", "ARCHIVE_BUCKET")["found"] == "is missing; stops worker"
    assert report.line("bucket", "all")["state"] == "skipped"
    assert report.line("Redis", "reached")["state"] == "green"


# Planted misconfigurations: what is planted, where it is found, in which state, and words of the mend

Plant = Callable[["Planting"], dict[str, str | None]]


@dataclass(frozen=True)
class Planting:
    """What a misconfiguration may be planted in."""

    bench: Workbench
    front: Front
    tmp_path: Path

    @property
    def main(self) -> Account:
        return self.bench.simulator.accounts[MAIN]


@dataclass(frozen=True)
class Case:
    """One misconfiguration."""

    name: str
    plant: Plant
    check: str
    state: str
    found: str
    mend: str
    options: tuple[str, ...]


CASES: list[Case] = []


def case(check: str, state: str, *, found: str, mend: str, write: bool = False) -> Callable[[Plant], Plant]:
    """Add a misconfiguration: what the function plants, the settings that it returns, and what is to be said of it."""

    def add(plant: Plant) -> Plant:
        only = check.partition(":")[0].partition(" ")[0].lower()
        options = ("--only", "web" if only == "settings" else only, *(() if write else ("--no-write",)))
        CASES.append(Case(plant.__name__, plant, check, state, found, mend, options))
        return plant

    return add


@case("settings: ARCHIVE_RETENTION", "amber", found="is no setting", mend="if ARCHIVE_RETENTION_DAYS is meant")
def misspelled_setting(_: Planting) -> dict[str, str | None]:
    return {"ARCHIVE_RETENTION": "365"}


# Twilio


@case(f"Twilio {MAIN}: auth token", "red", found="401, code 20003", mend="copy the auth token")
def wrong_token(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_AUTH_TOKEN": "stale-token"}


@case(f"Twilio {MAIN}: auth token", "amber", found="number 1 (401", mend="put a token that works first")
def tokens_in_wrong_order(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_AUTH_TOKEN": "stale-token,main-token-one"}


@case(f"Twilio {MAIN}: auth token", "amber", found="number 2 (401", mend="leave it out")
def token_left_over(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_AUTH_TOKEN": "main-token-one,stale-token"}


@case(f"Twilio {SUB}: auth token", "red", found="20003", mend="copy the auth token of this account")
def wrong_token_of_a_subaccount(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_ACCOUNTS": json.dumps([{"account_sid": SUB, "auth_tokens": ["main-token-one"]}])}


@case(f"Twilio {MAIN}: signing token", "red", found="primary auth token is not", mend="add the primary auth token")
def only_the_secondary_token(planting: Planting) -> dict[str, str | None]:
    def show_token(_request: Request, response: Response) -> Response:
        listed = json.loads(response.body.read())
        return Response.json({**listed, "accounts": [{**each, "auth_token": TOKENS[0]} for each in listed["accounts"]]})

    match = Match(endpoint="accounts")
    planting.bench.simulator.inject(Hook(after=show_token), match=match, times=None)
    return {"TWILIO_AUTH_TOKEN": TOKENS[1]}


@case(f"Twilio {MAIN}: auth token", "red", found="code 20005", mend="reactivate it")
def suspended_account(planting: Planting) -> dict[str, str | None]:
    planting.main.status = "suspended"
    return {}


@case(f"Twilio {MAIN}: auth token", "red", found="code 20008", mend="use the live ones")
def credentials_for_tests(planting: Planting) -> dict[str, str | None]:
    planting.bench.simulator.inject(ErrorStatus(403, 20008), times=None)
    return {}


@case(f"Twilio {MAIN}: API key", "red", found="401", mend="correct key and secret")
def wrong_key_secret(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_API_SECRET": "stale-secret"}


@case(f"Twilio {MAIN}: API key", "red", found="403", mend="leave to list, read and delete")
def restricted_key(planting: Planting) -> dict[str, str | None]:
    planting.bench.simulator.inject(ErrorStatus(403, 20403), match=Match(endpoint="list"), times=None)
    return {}


@case(f"Twilio {MAIN}: media access", "amber", found="can listen", mend="turn on HTTP authentication for media")
def open_media(planting: Planting) -> dict[str, str | None]:
    def serve_anybody(request: Request) -> Response | None:
        return None if "authorization" in request.headers else Response(200, {"Content-Type": "audio/x-wav"})

    planting.bench.simulator.inject(Hook(before=serve_anybody), match=Match(endpoint="media"), times=None)
    return {}


@case(f"Twilio {MAIN}: subaccounts", "amber", found=STRANGER, mend="add them to TWILIO_ACCOUNTS")
def subaccount_not_configured(planting: Planting) -> dict[str, str | None]:
    planting.bench.simulator.store.accounts[STRANGER] = Account(sid=STRANGER, parent=MAIN)
    return {}


@case(f"Twilio {MAIN}: subaccounts", "red", found="with recordings in", mend="nobody archives their recordings")
def subaccount_with_recordings_not_configured(planting: Planting) -> dict[str, str | None]:
    planting.bench.simulator.store.accounts[STRANGER] = Account(sid=STRANGER, parent=MAIN)
    planting.bench.simulator.record(STRANGER, seconds=1.0)
    return {}


@case(f"Twilio {MAIN}: clock", "red", found="s behind", mend="let NTP set")
def clock_behind_twilio(planting: Planting) -> dict[str, str | None]:
    def tell_time(_request: Request, response: Response) -> Response:
        return response.with_headers(Date=format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True))

    planting.bench.simulator.inject(Hook(after=tell_time), times=None)
    return {}


@case(f"Twilio {MAIN}: region", "red", found="api.ie1.twilio.com off", mend="set the edge to dublin")
def region_without_its_edge(_: Planting) -> dict[str, str | None]:
    ours = json.dumps([{"account_sid": SUB, "auth_tokens": ["sub-token"], "base_url": "http://127.0.0.1:1"}])
    return {"TWILIO_REGION": "ie1", "TWILIO_API_BASE_URL": None, "TWILIO_ACCOUNTS": ours}


@case(f"Twilio {MAIN}: REST API", "red", found="nobody listens", mend="let this machine reach Twilio")
def twilio_out_of_reach(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_API_BASE_URL": "http://127.0.0.1:1"}


@case(f"Twilio {MAIN}: media", "amber", found="storage of the account's own", mend="external storage")
def external_storage(planting: Planting) -> dict[str, str | None]:
    planting.bench.simulator.record(MAIN, seconds=1.0, external=True)
    return {}


# The callback endpoint


@case("web: reached", "red", found="nobody listens", mend="start web")
def web_not_running(_: Planting) -> dict[str, str | None]:
    return {"PUBLIC_URL": "http://127.0.0.1:1"}


@case("web: reached", "red", found="does not speak TLS", mend="set PUBLIC_URL to it")
def https_on_a_plain_port(planting: Planting) -> dict[str, str | None]:
    return {"PUBLIC_URL": planting.front.url.replace("http://", "https://")}


@case("web: signed POST", "red", found="to https://archive.example.com/recording-status", mend="wrong host: set")
def redirect_to_another_host(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda request: Answer(301, {"Location": f"https://archive.example.com{request.target}"})
    return {}


@case("web: signed POST", "red", found="redirected (308)", mend="wrong scheme: set PUBLIC_URL to https://127.0.0.1:")
def redirect_to_https(planting: Planting) -> dict[str, str | None]:
    secure = planting.front.url.replace("http://", "https://")
    planting.front.meet = lambda request: Answer(308, {"Location": f"{secure}{request.target}"})
    return {}


@case("web: signed POST", "red", found="does not lead to the archiver", mend="set PUBLIC_URL to http://127.0.0.1:")
def path_that_leads_nowhere(planting: Planting) -> dict[str, str | None]:
    return {"PUBLIC_URL": f"{planting.front.url}/hooks"}


@case("web: signed POST", "red", found="another prefix in PUBLIC_URL", mend="with the same PUBLIC_URL")
def prefix_that_web_does_not_know(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda request: replace(request, target=request.target.removeprefix("/hooks"))
    return {"PUBLIC_URL": f"{planting.front.url}/hooks"}


@case("web: signed POST", "red", found="another host in PUBLIC_URL: http://127.0.0.1", mend="with the same PUBLIC_URL")
def host_that_web_does_not_know(planting: Planting) -> dict[str, str | None]:
    return {"PUBLIC_URL": planting.front.url.replace("127.0.0.1", "localhost")}


@case("web: signed POST", "red", found="another port in PUBLIC_URL", mend="with the same PUBLIC_URL")
def port_that_web_does_not_know(planting: Planting) -> dict[str, str | None]:
    return {"PUBLIC_URL": f"http://127.0.0.1:{planting.front.upstream}"}


@case("web: signed POST", "red", found="knows auth token 2 but not the first", mend="the whole TWILIO_AUTH_TOKEN")
def web_without_the_new_token(planting: Planting) -> dict[str, str | None]:
    planting.main.auth_tokens = ["promoted-token", TOKENS[0]]
    return {"TWILIO_AUTH_TOKEN": f"promoted-token,{TOKENS[0]}"}


@case("web: signed POST", "red", found="another auth token for the main account", mend="the same TWILIO_ACCOUNT_SID")
def web_with_other_tokens(planting: Planting) -> dict[str, str | None]:
    planting.main.auth_tokens = ["promoted-token"]
    return {"TWILIO_AUTH_TOKEN": "promoted-token"}


@case("web: signing keys", "red", found=f"auth token 1 of {SUB}", mend="TWILIO_ACCOUNTS as here")
def web_with_other_tokens_of_a_subaccount(_: Planting) -> dict[str, str | None]:
    return {"TWILIO_ACCOUNTS": json.dumps([{"account_sid": SUB, "auth_tokens": ["promoted-token"]}])}


@case("web: signed POST", "red", found="X-Twilio-Signature is lost", mend="pass X-Twilio-Signature on")
def proxy_drops_the_signature(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda request: request.without("X-Twilio-Signature")
    return {}


@case("web: signed GET", "amber", found="rewrites the query", mend="pass the query on as it is")
def proxy_rewrites_the_query(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda request: replace(request, target=request.target.replace("%3A", ":"))
    return {}


@case("web: signed JSON", "amber", found="415", mend="application/json")
def proxy_changes_the_content_type(planting: Planting) -> dict[str, str | None]:
    def plain(request: FrontRequest) -> FrontRequest:
        is_json = request.headers.get("Content-Type") == "application/json"
        return replace(request, headers={**request.headers, "Content-Type": "text/plain"}) if is_json else request

    planting.front.meet = plain
    return {}


@case("web: signed POST", "red", found="answered 400: the callback was altered", mend="pass method, body and headers")
def proxy_cuts_the_body(planting: Planting) -> dict[str, str | None]:
    broken = Answer(400, {"Content-Type": "application/problem+json"}, b'{"status": 400}')
    planting.front.meet = lambda request: broken if request.method == "POST" else request
    return {}


@case("web: forged callbacks", "red", found="without a signature is answered 204", mend="nothing in front of it")
def somebody_else_answers(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda _request: Answer(204, {})
    return {}


@case("web: signed POST", "red", found="403 by something in front", mend="from the firewall")
def firewall(planting: Planting) -> dict[str, str | None]:
    forbidden = Answer(403, {"Content-Type": "text/html"}, b"<h1>Forbidden</h1>")
    planting.front.meet = lambda _request: forbidden
    return {}


@case("web: signed POST", "red", found="401 by something in front", mend="from the login in front of web")
def login_in_front(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda _request: Answer(401, {"WWW-Authenticate": 'Basic realm="staging"'})
    return {}


@case("web: signed POST", "red", found="502", mend="lead the proxy to its PORT")
def proxy_without_web(planting: Planting) -> dict[str, str | None]:
    planting.front.meet = lambda _request: Answer(502, {"Content-Type": "text/html"})
    return {}


@case("web: credentials", "red", found="not asked for", mend="the same WEBHOOK_USERNAME and WEBHOOK_PASSWORD")
def web_without_credentials(_: Planting) -> dict[str, str | None]:
    return {"WEBHOOK_USERNAME": "twilio", "WEBHOOK_PASSWORD": "hush-hush"}


# Redis


@case("Redis: reached", "red", found="nobody listens", mend="start Redis")
def redis_not_running(_: Planting) -> dict[str, str | None]:
    return {"REDIS_URL": NOBODY}


@case("Redis: reached", "red", found="out of range", mend="correct the database number")
def database_that_does_not_exist(_: Planting) -> dict[str, str | None]:
    return {"REDIS_URL": f"{os.environ['REDIS_URL'].rpartition('/')[0]}/9999"}


@case("Redis: reached", "red", found="refuses the password", mend="correct user name and password in REDIS_URL")
def password_that_redis_does_not_know(_: Planting) -> dict[str, str | None]:
    return {"REDIS_URL": os.environ["REDIS_URL"].replace("redis://", "redis://nobody:hush-hush@")}


@case("Redis: reached", "red", found="no answer", mend="begin REDIS_URL with redis://")
def tls_to_a_plain_redis(_: Planting) -> dict[str, str | None]:
    return {"REDIS_URL": os.environ["REDIS_URL"].replace("redis://", "rediss://")}


@case("Redis: worker", "amber", found="nobody takes messages from the queue, 1 wait", mend="start worker")
def no_worker(_: Planting) -> dict[str, str | None]:
    url = f"{os.environ['REDIS_URL'].rpartition('/')[0]}/63"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        client.lpush("recording-archiver:archive", "{}")
    return {"REDIS_URL": url}


# The bucket


@case("bucket: reached", "red", found="there is no bucket", mend="correct ARCHIVE_BUCKET")
def no_such_bucket(_: Planting) -> dict[str, str | None]:
    return {"ARCHIVE_BUCKET": f"nobody-{secrets.token_hex(4)}"}


@case("bucket: reached", "red", found="nobody listens", mend="correct AWS_ENDPOINT_URL_S3")
def s3_out_of_reach(_: Planting) -> dict[str, str | None]:
    return {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}


@case("bucket: reached", "amber", found="is in eu-west-1", mend="set AWS_DEFAULT_REGION=eu-west-1")
def wrong_region(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Headers({"x-amz-bucket-region": "eu-west-1"}), "ListObjectsV2", times=None)
    return {}


@case("bucket: reached", "red", found="does not belong", mend="correct ARCHIVE_BUCKET_OWNER")
def bucket_of_somebody_else(planting: Planting) -> dict[str, str | None]:
    refuse_with(planting, "x-amz-expected-bucket-owner")
    return {"ARCHIVE_BUCKET_OWNER": "111122223333"}


@case("bucket: missing object", "red", found="403", mend="allow s3:ListBucket")
def not_allowed_to_list(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Error(403), "ListObjectsV2", times=None)
    planting.bench.proxy.inject(S3Error(403), "HeadObject", times=None)
    return {}


@case("bucket: clock", "amber", found=" s ahead", mend="let NTP set")
def clock_ahead_of_s3(planting: Planting) -> dict[str, str | None]:
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=60), usegmt=True)
    planting.bench.proxy.inject(S3Headers({"date": date}), "ListObjectsV2", times=None)
    return {}


@case("bucket: versioning", "amber", found="suspended", mend="turn versioning on")
def no_versioning(planting: Planting) -> dict[str, str | None]:
    client, name = planting.bench.bucket.client, planting.bench.bucket.name
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Suspended"})
    return {}


@case("bucket: public access", "amber", found="not blocked: BlockPublicAcls", mend="turn on all four settings")
def public_access_not_blocked(planting: Planting) -> dict[str, str | None]:
    planting.bench.bucket.client.delete_public_access_block(Bucket=planting.bench.bucket.name)
    return {}


@case("bucket: bucket policy", "red", found="lets everybody in", mend="take the statements for everybody out")
def public_policy(planting: Planting) -> dict[str, str | None]:
    said = S3Response(200, {"content-type": "application/xml"}).with_body(
        b"<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>"
    )
    planting.bench.proxy.inject(S3Hook(before=lambda _request: said), "GetBucketPolicyStatus", times=None)
    return {}


@case("bucket: expiry", "red", found="after 30 days, before ARCHIVE_RETENTION_DAYS", mend="wait for 365 days at least")
def lifecycle_that_removes_too_early(planting: Planting) -> dict[str, str | None]:
    rule: Any = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    client, name = planting.bench.bucket.client, planting.bench.bucket.name
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    return {"ARCHIVE_OBJECT_LOCK_MODE": "GOVERNANCE", "ARCHIVE_RETENTION_DAYS": "365"}


@case("bucket: Object Lock", "red", found="ObjectLockConfigurationNotFoundError", mend="turn Object Lock on")
def lock_that_the_bucket_does_not_have(_: Planting) -> dict[str, str | None]:
    return {"ARCHIVE_OBJECT_LOCK_MODE": "COMPLIANCE", "ARCHIVE_RETENTION_DAYS": "365"}


@case("bucket: deletions", "amber", found="paused: somebody looks into it", mend="archiver deletions resume")
def deletions_paused(planting: Planting) -> dict[str, str | None]:
    document = {"schema": PAUSE_SCHEMA, "reason": "somebody looks into it", "recording_sid": None}
    planting.bench.overwrite(DELETIONS_PAUSED, json.dumps(document).encode())
    return {}


@case("bucket: write", "red", found="403 AccessDenied", mend="allow s3:PutObject on arn:aws:s3:::", write=True)
def not_allowed_to_write(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Error(403), "PutObject", times=None)
    return {}


@case("bucket: write", "red", found="with ARCHIVE_SSE", mend="allow kms:GenerateDataKey and kms:Decrypt", write=True)
def key_that_may_not_be_used(planting: Planting) -> dict[str, str | None]:
    refuse_with(planting, "x-amz-server-side-encryption-aws-kms-key-id", 400, "KMS.DisabledException")
    return {"ARCHIVE_SSE": "aws:kms", "ARCHIVE_KMS_KEY_ID": "arn:aws:kms:us-east-1:111122223333:key/k"}


@case("bucket: write", "red", found="with If-None-Match: 501", mend="use a store that knows conditional", write=True)
def store_that_refuses_conditions(planting: Planting) -> dict[str, str | None]:
    refuse_with(planting, "if-none-match", 501, "NotImplemented")
    return {}


@case("bucket: write", "red", found="with a SHA-256 checksum", mend="takes x-amz-checksum-sha256", write=True)
def store_that_refuses_checksums(planting: Planting) -> dict[str, str | None]:
    refuse_with(planting, "x-amz-checksum-sha256", 501, "NotImplemented")
    return {}


@case("bucket: encryption", "red", found="S3 reports none", mend="use a store that encrypts", write=True)
def store_that_does_not_encrypt(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Headers({"x-amz-server-side-encryption": None}), "HeadObject", times=None)
    return {"ARCHIVE_SSE": "AES256"}


@case("bucket: checksum", "red", found="S3 holds no SHA-256", mend="set ARCHIVE_VERIFY=readback", write=True)
def store_without_checksums(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(WithoutChecksums(), times=None)
    return {}


@case("bucket: checksum", "red", found="can't be looked at", mend="look at the store and the network", write=True)
def store_that_hangs_up_meanwhile(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(AnswerLost(), "HeadObject", key_contains="control/check/", times=None)
    return {}


@case("bucket: overwriting", "red", found="despite If-None-Match", mend="or set ARCHIVE_VERIFY=readback", write=True)
def store_that_overwrites(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(IgnoredHeaders(("if-none-match",)), times=None)
    return {}


@case("bucket: overwriting", "amber", found="despite If-None-Match", mend="looks before it writes", write=True)
def store_that_overwrites_with_readback(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(IgnoredHeaders(("if-none-match",)), times=None)
    return {"ARCHIVE_VERIFY": "readback"}


@case("bucket: changing", "red", found="ignores If-Match", mend="knows conditional writes", write=True)
def store_that_ignores_if_match(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(IgnoredHeaders(("if-match",)), times=None)
    return {}


@case("bucket: wrong checksum", "red", found="do not fit their checksum", mend="ARCHIVE_VERIFY=readback", write=True)
def store_that_does_not_compare(planting: Planting) -> dict[str, str | None]:
    names = ("x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm")
    planting.bench.proxy.inject(IgnoredHeaders(names), "PutObject", times=None)
    return {}


@case("bucket: large recordings", "red", found="403", mend="s3:AbortMultipartUpload", write=True)
def not_allowed_to_upload_in_parts(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Error(403), "UploadPart", times=None)
    return {}


@case("bucket: reading back", "red", found="403", mend="allow s3:GetObject", write=True)
def not_allowed_to_read(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Error(403), "GetObject", key_contains="control/check", times=None)
    return {}


@case("bucket: storage class", "red", found="InvalidStorageClass", mend="a class that this store has", write=True)
def storage_class_that_the_store_does_not_have(planting: Planting) -> dict[str, str | None]:
    refuse_with(planting, "x-amz-storage-class", 400, "InvalidStorageClass")
    return {"ARCHIVE_STORAGE_CLASS": "GLACIER_IR"}


@case("bucket: removing documents", "red", found="403", mend="allow s3:DeleteObject on quarantine/*", write=True)
def not_allowed_to_remove_documents(planting: Planting) -> dict[str, str | None]:
    planting.bench.proxy.inject(S3Error(403), "DeleteObject", times=None)
    return {}


def refuse_with(planting: Planting, header: str, status: int = 403, code: str = "AccessDenied") -> None:
    """Let S3 refuse every request that has a header."""

    def refuse(request: S3Request) -> S3Response | None:
        return S3Error(status, code).instead(request) if header in request.headers else None

    planting.bench.proxy.inject(S3Hook(before=refuse), times=None)


@pytest.mark.parametrize("planted", CASES, ids=lambda case: case.name)
def test_a_planted_misconfiguration_is_found(
    planted: Case, bench: Workbench, front: Front, check: Callable[..., Report], tmp_path: Path
) -> None:
    """The check that is meant names what is wrong and the mend, and red means exit code 4."""
    group, _, name = planted.check.rpartition(": ")
    changes = planted.plant(Planting(bench, front, tmp_path))
    report = check(*planted.options, **changes)
    line = report.line(group, name)
    assert line["state"] == planted.state, report.checks
    assert planted.found in line["found"], line
    assert planted.mend in line["mend"], line
    assert report.code == (4 if report.states("red") else 0)


# What needs a process or a server of its own


@pytest.mark.parametrize(
    ("changes", "found", "mend"),
    [
        ({"AWS_ACCESS_KEY_ID": "stale"}, "InvalidAccessKeyId", "correct AWS_ACCESS_KEY_ID"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "no AWS credentials",
            "or give the dyno or task a role",
        ),
    ],
)
def test_wrong_credentials_of_s3_are_found(bench: Workbench, changes: dict[str, str], found: str, mend: str) -> None:
    """Credentials that S3 does not know are told from none at all (in a process of its own: boto3 remembers them)."""
    environ = {**os.environ, **changes}
    ran = subprocess.run(
        [ENTRY, "check", "--json", "--only", "bucket"], env=environ, capture_output=True, timeout=60, check=False
    )
    line = Report(ran.returncode, json.loads(ran.stdout)["checks"]).line("bucket", "reached")
    assert (ran.returncode, line["state"]) == (4, "red")
    assert found in line["found"]
    assert mend in line["mend"]


@pytest.fixture(scope="module")
def own_redis() -> Iterator[RedisServer]:
    with RedisServer(password="hush-hush") as server:
        yield server


@pytest.mark.parametrize(
    ("name", "configuration", "state", "mend"),
    [
        ("eviction", {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru"}, "red", "noeviction"),
        ("eviction", {"maxmemory-policy": "volatile-ttl"}, "amber", "noeviction"),
        ("memory", {"maxmemory": "1100000"}, "red", "give Redis more memory"),
        ("persistence", {"appendonly": "no"}, "amber", "set appendonly yes"),
        ("role", {"replicaof": "127.0.0.1 1"}, "red", "let REDIS_URL name the primary"),
    ],
)
def test_a_redis_that_loses_messages_is_found(
    own_redis: RedisServer,
    check: Callable[..., Report],
    name: str,
    configuration: dict[str, str],
    state: str,
    mend: str,
) -> None:
    """What Redis says of itself is judged: eviction, memory, persistence, role."""
    healthy = {"maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "yes"}
    with own_redis.client() as client:
        try:
            for key, value in configuration.items():
                client.execute_command(
                    *(("REPLICAOF", *value.split()) if key == "replicaof" else ("CONFIG SET", key, value))
                )
            line = check("--only", "redis", REDIS_URL=own_redis.url()).line("Redis", name)
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")
            for key, value in healthy.items():
                client.config_set(key, value)
    assert line["state"] == state, line
    assert mend in line["mend"]


@pytest.mark.parametrize(
    ("scheme", "verify", "name", "state", "mend"),
    [
        ("rediss", "full", "reached", "red", "REDIS_TLS_VERIFY=none"),
        ("rediss", "none", "TLS", "amber", "REDIS_TLS_VERIFY=full"),
        ("redis", "full", "reached", "red", "begin REDIS_URL with rediss://"),
    ],
)
def test_tls_to_redis_is_judged(
    running: Stack,
    check: Callable[..., Report],
    tmp_path: Path,
    scheme: str,
    verify: str,
    name: str,
    state: str,
    mend: str,
) -> None:
    """A certificate that can't be verified, verification that is off, and TLS that is not asked for are found."""
    with tls_front(running.redis.port, tmp_path) as port:
        url = f"{scheme}://127.0.0.1:{port}{urlsplit(running.redis_url).path}"
        line = check("--only", "redis", REDIS_URL=url, REDIS_TLS_VERIFY=verify).line("Redis", name)
    assert line["state"] == state, line
    assert mend in line["mend"]


def test_a_certificate_that_twilio_would_refuse_is_found(
    front: Front, check: Callable[..., Report], tmp_path: Path
) -> None:
    """Nothing is sent to a host whose certificate nobody vouches for."""
    with tls_front(front.upstream, tmp_path) as port:
        line = check("--only", "web", PUBLIC_URL=f"https://127.0.0.1:{port}").line("web", "reached")
    assert line["state"] == "red"
    assert "certificate is refused" in line["found"]
    assert "certificate of a public authority" in line["mend"]


@pytest.fixture(scope="module")
def guarded(redis_server: RedisServer, s3_server: S3Server) -> Iterator[Front]:
    """Return the front of a web process that asks for credentials and has no Redis."""
    settings = {"WEBHOOK_USERNAME": "twilio", "WEBHOOK_PASSWORD": "hush-hush", "REDIS_URL": NOBODY}
    with Front() as front, running_behind(front, redis_server, s3_server, **settings):
        yield front


RIGHT = {"WEBHOOK_USERNAME": "twilio", "WEBHOOK_PASSWORD": "hush-hush"}


@pytest.mark.parametrize(
    ("name", "given", "state", "found", "mend"),
    [
        ("credentials", RIGHT, "green", "asked for, and right", ""),
        (
            "signed POST",
            {**RIGHT, "WEBHOOK_PASSWORD": "hash-hash"},
            "red",
            "refuses the credentials",
            "the same WEBHOOK",
        ),
        (
            "signed POST",
            {},
            "red",
            "WEBHOOK_USERNAME is unset here",
            "set WEBHOOK_USERNAME and WEBHOOK_PASSWORD as web",
        ),
        ("/readyz", RIGHT, "red", "does not reach its Redis", "give web the REDIS_URL"),
    ],
)
def test_credentials_are_tried(
    guarded: Front, check: Callable[..., Report], name: str, given: dict[str, str], state: str, found: str, mend: str
) -> None:
    """Right credentials are green, wrong and missing ones are told apart, and so is a Redis that only web misses."""
    guarded.reset()
    line = check("--only", "web", PUBLIC_URL=guarded.url, **given).line("web", name)
    assert line["state"] == state, line
    assert found in line["found"]
    assert mend in line["mend"]


def test_a_lost_challenge_is_found(guarded: Front, check: Callable[..., Report]) -> None:
    """Twilio gives its credentials only to who asks for them."""
    guarded.reset()

    def drop(answer: Answer) -> Answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() != "www-authenticate"}
        return replace(answer, headers=kept)

    guarded.part = drop
    line = check("--only", "web", PUBLIC_URL=guarded.url, **RIGHT).line("web", "credentials")
    assert (line["state"], "pass WWW-Authenticate on" in line["mend"]) == ("red", True)


def test_another_scheme_is_found(redis_server: RedisServer, s3_server: S3Server, check: Callable[..., Report]) -> None:
    """A web process that was told https refuses what was signed for http, and the check finds out by trying."""
    with Front() as front:
        secure = front.url.replace("http://", "https://")
        with running_behind(front, redis_server, s3_server, PUBLIC_URL=secure):
            line = check("--only", "web", PUBLIC_URL=front.url).line("web", "signed POST")
    assert line["state"] == "red"
    assert f"another scheme in PUBLIC_URL: {secure}" in line["found"]


LOCK = {"ARCHIVE_OBJECT_LOCK_MODE": "GOVERNANCE", "ARCHIVE_RETENTION_DAYS": "365"}


@pytest.mark.parametrize(
    ("fault", "name", "state", "mend"),
    [
        (
            IgnoredHeaders(("x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date")),
            "lock kept",
            "red",
            "a store",
        ),
        (S3Hook(before=lambda request: answer_204(request)), "lock kept", "red", "use a store that keeps Object Lock"),
        (S3Hook(before=lambda request: deny_hold(request)), "legal hold", "amber", "allow s3:PutObjectLegalHold"),
    ],
    ids=["retention ignored", "locked version deleted", "hold denied"],
)
def test_a_lock_that_does_not_hold_is_found(
    make_workbench: Callable[..., Workbench], check: Callable[..., Report], fault: Any, name: str, state: str, mend: str
) -> None:
    """A store that takes a retention and does not keep it is red, whatever it says."""
    locked = make_workbench(object_lock=True)
    locked.proxy.inject(fault, times=None)
    line = check("--only", "bucket", ARCHIVE_BUCKET=locked.bucket.name, **LOCK).line("bucket", name)
    assert line["state"] == state, line
    assert mend in line["mend"]


def answer_204(request: S3Request) -> S3Response | None:
    return S3Response(204) if request.operation == "DeleteObject" and request.key.endswith("locked") else None


def deny_hold(request: S3Request) -> S3Response | None:
    return S3Error(403).instead(request) if request.operation == "PutObjectLegalHold" else None


def test_denied_deletions_are_green(bench: Workbench, check: Callable[..., Report]) -> None:
    """Credentials that may not delete media are as they should be."""
    bench.proxy.inject(S3Error(403), "DeleteObject", key_contains="recordings/", times=None)
    assert check("--only", "bucket").line("bucket", "deleting media")["state"] == "green"


def test_configuration_that_may_not_be_read_is_skipped(bench: Workbench, check: Callable[..., Report]) -> None:
    """Credentials with the least privilege don't make the report red: what can't be asked is skipped, and says why."""
    for operation in ("GetBucketVersioning", "GetPublicAccessBlock", "GetBucketLifecycleConfiguration"):
        bench.proxy.inject(S3Error(403), operation, times=None)
    report = check("--only", "bucket", "--no-write")
    assert report.code == 0
    assert "s3:GetBucketVersioning" in report.line("bucket", "versioning")["found"]
    assert {"bucket: versioning", "bucket: public access", "bucket: lifecycle"} <= set(report.states("skipped"))


def test_what_never_answers_ends_in_time(bench: Workbench, simulator: Simulator, check: Callable[..., Report]) -> None:
    """A side that is silent costs seconds, and the others are checked all the same."""

    def refuse(_request: Request) -> Response:
        raise ApiError(503, 20503)

    simulator.inject(Hook(before=refuse), times=None)
    report = check("--no-write")
    assert report.line(f"Twilio {MAIN}", "auth token")["state"] == "red"
    assert report.line("bucket", "reached")["state"] == "green"


def test_a_worker_without_the_auth_token_is_looked_at(check: Callable[..., Report]) -> None:
    """Where the environment is a worker's, with an API key and no auth token, the key is tried and web is named."""
    report = check("--only", "twilio", TWILIO_AUTH_TOKEN=None, TWILIO_ACCOUNTS=None)
    assert report.line(f"Twilio {MAIN}", "auth token")["state"] == "skipped"
    assert report.line(f"Twilio {MAIN}", "API key")["state"] == "green"
    assert set(report.states("red")) == {"settings: TWILIO_AUTH_TOKEN"}
    assert report.line("settings", "TWILIO_AUTH_TOKEN")["found"].endswith("stops web")


def test_the_settings_alone_can_be_looked_at(check: Callable[..., Report]) -> None:
    """A release is stopped by its settings before any process starts with them, whatever Twilio or S3 do meanwhile."""
    right = check("--only", "settings")
    assert (right.code, {each["group"] for each in right.checks}) == (0, {"settings"})
    assert check("--only", "settings", PUBLIC_URL=None).code == 5
