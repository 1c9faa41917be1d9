"""The REST client: credentials, redirects and pages go nowhere but where they may, and answers become our errors."""

import base64
import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date, timedelta
from typing import Any

import pytest

from app.settings import TwilioAccount
from deploy.local.twilio import (
    Account,
    Cut,
    Deliver,
    ErrorPage,
    ErrorStatus,
    Gzip,
    Headers,
    Hook,
    Match,
    Redirect,
    Request,
    Response,
    SimRecording,
    Simulator,
    throttled,
)
from tests.integration.workbench import now
from workers.errors import (
    ArchiverError,
    ConfigurationError,
    ContentError,
    GoneError,
    NoSuchLayoutError,
    TemporaryError,
    ThrottledError,
)
from workers.twilio_api import TwilioApi

KEY_SID = "SK" + "5e" * 16


def client(simulator: Simulator, **changes: Any) -> TwilioApi:
    """Return a client for the simulator's accounts, each with the tokens it has there."""
    accounts = {
        account.sid: TwilioAccount(
            **{
                "account_sid": account.sid,
                "auth_tokens": tuple(account.auth_tokens),
                "base_url": simulator.url,
                **changes,
            }
        )
        for account in simulator.accounts.values()
    }
    return TwilioApi(accounts)


@pytest.fixture
def account(simulator: Simulator) -> Account:
    return next(iter(simulator.accounts.values()))


@pytest.fixture
def recording(simulator: Simulator, account: Account) -> SimRecording:
    return simulator.record(account.sid, seconds=1.0)


def read(api: TwilioApi, recording: SimRecording, channels: int | None = 2, extension: str = "wav") -> bytes:
    """Download the media of a recording."""
    with api.media(recording.account_sid, recording.sid, extension, channels) as answer:
        return answer.body.read()


def refusal(act: Callable[[], object]) -> ArchiverError:
    """Return the error that something ends with."""
    with pytest.raises(ArchiverError) as caught:
        act()
    return caught.value


@contextmanager
def users(simulator: Simulator) -> Iterator[list[tuple[str, str]]]:
    """Collect user name and password of every request."""
    seen: list[tuple[str, str]] = []

    def look(request: Request) -> None:
        name, _, password = base64.b64decode(request.headers["authorization"].split()[1]).decode().partition(":")
        seen.append((name, password))

    injection = simulator.inject(Hook(before=look), times=None)
    yield seen
    injection.remove()


def answer_json(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Hook:
    """Let Twilio answer JSON that is changed."""

    def after(_request: Request, response: Response) -> Response:
        return Response.json(change(json.loads(response.body.read())))

    return Hook(after=after)


# Credentials


def test_the_next_token_is_tried_after_a_401(simulator: Simulator, account: Account, recording: SimRecording) -> None:
    """During a rotation every configured token is tried in order, and the first that is accepted is used."""
    api = client(simulator, auth_tokens=("old", account.auth_tokens[0], "never"))
    with users(simulator) as seen:
        assert api.fetch(account.sid, recording.sid).sid == recording.sid
        assert read(api, recording) == simulator.media_bytes(recording.sid, 2)
        assert api.delete(account.sid, recording.sid) == 204
    assert seen == [(account.sid, "old"), (account.sid, account.auth_tokens[0])] * 3


def test_tokens_that_are_all_wrong_are_a_fault_of_configuration(
    simulator: Simulator, account: Account, recording: SimRecording
) -> None:
    """Each is tried once, and the error holds none of them."""
    api = client(simulator, auth_tokens=("wrong-one", "wrong-two"))
    with users(simulator) as seen:
        error = refusal(lambda: api.fetch(account.sid, recording.sid))
    assert type(error) is ConfigurationError
    assert error.reason == "twilio_refused"
    assert "20003" in error.detail
    assert "wrong" not in str(error)
    assert len(seen) == 2


def test_an_api_key_is_preferred(simulator: Simulator, account: Account, recording: SimRecording) -> None:
    """Where an API key is configured no auth token is ever sent."""
    account.api_keys[KEY_SID] = "key-secret"
    api = client(simulator, api_key=KEY_SID, api_secret="key-secret")
    with users(simulator) as seen:
        api.fetch(account.sid, recording.sid)
        account.api_keys.clear()
        assert type(refusal(lambda: api.fetch(account.sid, recording.sid))) is ConfigurationError
    assert seen == [(KEY_SID, "key-secret")] * 2


def test_an_account_that_is_not_configured_is_not_asked_for(simulator: Simulator, recording: SimRecording) -> None:
    """Without credentials of its own nothing is sent."""
    error = refusal(lambda: client(simulator).fetch("AC" + "0" * 32, recording.sid))
    assert (type(error), error.reason) == (ConfigurationError, "account_not_configured")
    assert simulator.timeline == []


def test_each_account_has_its_own_credentials() -> None:
    """A subaccount's recording is asked for with the subaccount's token."""
    main, sub = Account(), Account()
    with Simulator([main, sub]) as simulator:
        recording = simulator.record(sub.sid, seconds=1.0)
        with users(simulator) as seen:
            client(simulator).fetch(sub.sid, recording.sid)
        assert seen == [(sub.sid, sub.auth_tokens[0])]


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed_without_credentials(
    simulator: Simulator, recording: SimRecording, status: int
) -> None:
    """What is presigned gets no credentials."""
    simulator.inject(Redirect(status=status), recording.sid)
    assert read(client(simulator), recording) == simulator.media_bytes(recording.sid, 2)
    assert [(event.endpoint, event.authorized) for event in simulator.timeline] == [("media", True), ("cdn", False)]


@pytest.mark.parametrize(("hops", "followed"), [(1, 1), (2, 2), (3, 2), (9, 2)])
def test_at_most_two_redirects_are_followed(
    simulator: Simulator, recording: SimRecording, hops: int, followed: int
) -> None:
    """Two hops lead to the media, a third is a loop; none of them is asked with credentials."""
    simulator.inject(Redirect(), recording.sid)
    simulator.inject(Redirect(), recording.sid, Match(endpoint="cdn"), times=hops - 1)
    api = client(simulator)
    if hops <= 2:
        assert read(api, recording) == simulator.media_bytes(recording.sid, 2)
    else:
        error = refusal(lambda: read(api, recording))
        assert (type(error), error.reason) == (TemporaryError, "media_redirect_loop")
    assert [event.authorized for event in simulator.timeline] == [True] + [False] * followed


def test_a_redirect_to_another_host_is_refused(simulator: Simulator, recording: SimRecording) -> None:
    """A host that is not on the list is never connected to, and named in the error without path or query."""
    with Simulator() as other:
        for target in (f"{other.url}/secret?token=1", f"//127.0.0.1:{other.url.rpartition(':')[2]}/secret"):
            simulator.inject(Redirect(target), recording.sid)
            error = refusal(lambda: read(client(simulator), recording))
            assert (type(error), error.reason) == (ConfigurationError, "media_redirect_refused")
            assert "127.0.0.1" in error.detail
            assert "secret" not in str(error)
        assert other.timeline == []


def asked_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let no name but this machine's resolve, and collect the names that were asked for."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if host == "127.0.0.1":
            return resolve(host, *rest, **options)
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://media.twiliocdn.com/x?X-Amz-Signature=1", "media.twiliocdn.com"),
        ("https://twiliocdn.com/x", "twiliocdn.com"),
        ("https://api.ie1.twilio.com/x", "api.ie1.twilio.com"),
        ("https://com-twilio-us1-recordings.s3.amazonaws.com:443/x", "com-twilio-us1-recordings.s3.amazonaws.com"),
    ],
)
def test_twilios_media_hosts_are_followed(
    simulator: Simulator, recording: SimRecording, monkeypatch: pytest.MonkeyPatch, url: str, host: str
) -> None:
    """The hosts that Twilio's media is known to come from are asked for, over https."""
    asked = asked_names(monkeypatch)
    simulator.inject(Redirect(url), recording.sid)
    error = refusal(lambda: read(client(simulator), recording))
    assert (type(error), asked) == (TemporaryError, [host])


@pytest.mark.parametrize(
    "url",
    [
        "http://media.twiliocdn.com/x",
        "https://media.example.net/x",
        "https://eviltwilio.com/x",
        "https://twilio.com.example.net/x",
        "https://api.twilio.com@example.net/x",
        "https://example.net/.twilio.com",
        "https://example.net#.twilio.com",
        "https://example.net\\.twilio.com/x",
        "ftp://media.twilio.com/x",
        "file:///etc/passwd",
        "https:///x",
        "https://[::1",
        "https://media.twilio.com:port/x",
    ],
)
def test_other_hosts_and_schemes_are_refused(
    simulator: Simulator, recording: SimRecording, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """What only looks like one of Twilio's hosts, or is not https, is not even looked up."""
    asked = asked_names(monkeypatch)
    simulator.inject(Redirect(url), recording.sid)
    error = refusal(lambda: read(client(simulator), recording))
    assert (type(error), error.reason) == (ConfigurationError, "media_redirect_refused")
    assert asked == []
    assert [event.endpoint for event in simulator.timeline] == ["media"]


@pytest.mark.parametrize("endpoint", ["resource", "delete"])
def test_only_media_is_redirected(simulator: Simulator, recording: SimRecording, endpoint: str) -> None:
    """A redirect of the resource or of a DELETE is followed by nobody."""
    api = client(simulator)
    simulator.inject(Redirect("{url}{path}"), recording.sid, Match(endpoint=endpoint))
    act = api.fetch if endpoint == "resource" else api.delete
    assert type(refusal(lambda: act(recording.account_sid, recording.sid))) is TemporaryError
    assert len(simulator.timeline) == 1


# What Twilio or a callback says of hosts is never used


def test_urls_in_answers_are_never_used(simulator: Simulator, account: Account, recording: SimRecording) -> None:
    """Neither `media_url` nor any other address in an answer is asked for anything."""
    with Simulator() as other:

        def elsewhere(resource: dict[str, Any]) -> dict[str, Any]:
            urls = {"media_url": f"{other.url}/media", "uri": f"{other.url}/x.json"}
            subresources = {name: f"{other.url}/{name}.json" for name in resource["subresource_uris"]}
            return {**resource, **urls, "subresource_uris": subresources}

        simulator.inject(answer_json(elsewhere), recording.sid, Match(endpoint="resource"), times=None)
        api = client(simulator)
        fetched = api.fetch(account.sid, recording.sid)
        assert fetched.media_url == f"{other.url}/media"
        read(api, recording)
        api.transcriptions(account.sid, recording.sid)
        api.add_on_results(account.sid, recording.sid)
        api.delete(account.sid, recording.sid)
        assert other.timeline == []


@pytest.mark.parametrize("where", ["path", "host"])
def test_the_next_page_is_asked_of_the_configured_host(simulator: Simulator, account: Account, where: str) -> None:
    """Another list is refused; another host in the address of the same list is not even looked at."""
    simulator.record(account.sid, seconds=1.0)
    with Simulator() as other:
        path = f"/2010-04-01/Accounts/{account.sid}/Recordings.json?Page=1"
        elsewhere = f"{other.url}{path}" if where == "host" else path.replace(account.sid, "AC" + "0" * 32)
        simulator.inject(answer_json(lambda page: {**page, "next_page_uri": elsewhere}), match=Match(endpoint="list"))
        api = client(simulator)
        if where == "host":
            assert len(list(api.recordings(account.sid))) == 1
        else:
            error = refusal(lambda: list(api.recordings(account.sid)))
            assert (type(error), error.reason) == (ContentError, "page_elsewhere")
        assert other.timeline == []


@pytest.mark.parametrize(
    ("media_url", "external"),
    [
        (None, False),
        ("", False),
        ("https://api.twilio.com/2010-04-01/Accounts/AC/Recordings/RE", False),
        ("http://api.twilio.com/2010-04-01/Accounts/AC/Recordings/RE", False),
        ("https://api.dublin.ie1.twilio.com/2010-04-01/Accounts/AC/Recordings/RE", False),
        ("https://media.twiliocdn.com/x", False),
        ("{url}/2010-04-01/Accounts/AC/Recordings/RE", False),
        ("https://bucket.s3.amazonaws.com/AC/RE.wav", True),
        ("https://eviltwilio.com/RE", True),
        ("/2010-04-01/Accounts/AC/Recordings/RE", False),
        ("https://", False),
        ("https://[bad/RE", False),
        (7, False),
    ],
)
def test_external_storage_is_told_by_the_host(
    simulator: Simulator, account: Account, recording: SimRecording, media_url: Any, external: bool
) -> None:
    """The media is stored externally where its address names a host and none of Twilio's."""
    url = media_url.format(url=simulator.url) if isinstance(media_url, str) else media_url
    simulator.inject(answer_json(lambda resource: {**resource, "media_url": url}), match=Match(endpoint="resource"))
    api = client(simulator)
    assert api.is_stored_externally(api.fetch(account.sid, recording.sid)) is external


def test_the_environment_sends_nothing_elsewhere(
    simulator: Simulator, recording: SimRecording, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Proxies and passwords of the environment are not used."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    simulator.inject(Redirect(), recording.sid)
    assert read(client(simulator), recording) == simulator.media_bytes(recording.sid, 2)
    assert [event.authorized for event in simulator.timeline] == [True, False]


# Time


@contextmanager
def blackhole() -> Iterator[str]:
    """Give the URL of a port that accepts no connection and refuses none: its backlog is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_host_that_does_not_answer_is_given_up(account: Account, simulator: Simulator) -> None:
    """Connecting ends within seconds, and the error holds neither address nor SID."""
    with blackhole() as url:
        api = client(simulator, base_url=url)
        started = time.monotonic()
        error = refusal(lambda: api.fetch(account.sid, "RE" + "1" * 32))
        assert 4 < time.monotonic() - started < 8
    assert (type(error), str(error)) == (TemporaryError, "twilio_unreachable: ConnectTimeout")


def test_nobody_listening_is_temporary(account: Account, simulator: Simulator) -> None:
    """A refused connection is an error that passes."""
    error = refusal(lambda: client(simulator, base_url="http://127.0.0.1:1").fetch(account.sid, "RE" + "1" * 32))
    assert (type(error), error.reason) == (TemporaryError, "twilio_unreachable")


# Media


@pytest.mark.parametrize(("framing", "has_length"), [("length", True), ("chunked", False), ("close", False)])
def test_media_comes_as_it_is_sent(
    simulator: Simulator, recording: SimRecording, framing: Any, has_length: bool
) -> None:
    """The content type comes without parameters and the length where one is announced; the bytes are not encoded."""
    simulator.inject(Deliver(framing), recording.sid)
    simulator.inject(Headers({"Content-Type": "Audio/X-WAV; charset=x"}), recording.sid, Match(endpoint="media"))
    body = simulator.media_bytes(recording.sid, 2)
    with client(simulator).media(recording.account_sid, recording.sid, "wav", 2) as answer:
        assert answer.content_type == "audio/x-wav"
        assert answer.content_length == (len(body) if has_length else None)
        assert answer.body.read() == body


@pytest.mark.parametrize("channels", [1, 2, None])
@pytest.mark.parametrize("extension", ["wav", "mp3"])
def test_the_rung_is_asked_for(
    simulator: Simulator, recording: SimRecording, channels: int | None, extension: str
) -> None:
    """Channels are asked for by their number, or not at all, and the format by the extension."""
    assert read(client(simulator), recording, channels, extension) == simulator.media_bytes(
        recording.sid, channels, extension
    )
    (event,) = simulator.timeline
    assert event.query == ({} if channels is None else {"RequestedChannels": str(channels)})
    assert event.path.endswith(f"/Recordings/{recording.sid}.{extension}")


def test_media_that_is_compressed_is_refused(simulator: Simulator, recording: SimRecording) -> None:
    """Identity is asked for, and anything else would not be the bytes to archive."""
    seen: list[str] = []
    hook = Hook(before=lambda request: seen.append(request.headers["accept-encoding"]))
    simulator.inject(hook, recording.sid, Match(endpoint="media"))
    simulator.inject(Gzip(), recording.sid)
    error = refusal(lambda: read(client(simulator), recording))
    assert (type(error), error.reason, seen) == (ContentError, "media_encoded", ["identity"])


# Errors


@pytest.mark.parametrize("shape", ["json", "xml", "problem"])
def test_the_code_is_read_in_every_shape(simulator: Simulator, recording: SimRecording, shape: Any) -> None:
    """Twilio's three spellings of an error give the same code."""
    simulator.inject(ErrorStatus(400, 16113, shape=shape), recording.sid, Match(endpoint="media"))
    error = refusal(lambda: read(client(simulator), recording))
    assert isinstance(error, NoSuchLayoutError)
    assert (error.status, error.code) == (400, 16113)


ANSWERS: list[tuple[ErrorStatus, type[ArchiverError], float | None]] = [
    (ErrorStatus(401, 20003), ConfigurationError, None),
    (ErrorStatus(403, 20403), ConfigurationError, None),
    (ErrorStatus(404, 20404), GoneError, None),
    (throttled(), ThrottledError, None),
    (throttled(7), ThrottledError, 7.0),
    (throttled("Mon, 23 Nov 2026 02:00:00 GMT"), ThrottledError, 0.0),
    (throttled("soon"), ThrottledError, None),
    (ErrorStatus(500), TemporaryError, None),
    (ErrorStatus(503, retry_after=9), TemporaryError, 9.0),
    (ErrorStatus(409, 20009), TemporaryError, None),
    (ErrorStatus(302), TemporaryError, None),
]


@pytest.mark.parametrize(("fault", "kind", "retry_after_s"), ANSWERS)
@pytest.mark.parametrize("endpoint", ["resource", "media", "delete"])
def test_answers_become_our_errors(
    simulator: Simulator,
    recording: SimRecording,
    endpoint: str,
    fault: ErrorStatus,
    kind: type[ArchiverError],
    retry_after_s: float | None,
) -> None:
    """Each answer says what the caller must do, and after what time where Twilio said so; a 404 to a DELETE is one."""
    api = client(simulator)
    simulator.inject(fault, recording.sid, Match(endpoint=endpoint), times=None)
    acts: dict[str, Callable[[], object]] = {
        "resource": lambda: api.fetch(recording.account_sid, recording.sid),
        "media": lambda: read(api, recording),
        "delete": lambda: api.delete(recording.account_sid, recording.sid),
    }
    if (endpoint, fault.status) == ("delete", 404):
        assert api.delete(recording.account_sid, recording.sid) == 404
        return
    error = refusal(acts[endpoint])
    assert (type(error), error.retry_after_s) == (kind, retry_after_s)
    assert str(fault.status) in error.detail


# The resource and lists


def test_a_connection_that_breaks_after_the_answer_to_a_delete_changes_nothing(
    simulator: Simulator, account: Account, recording: SimRecording
) -> None:
    """Twilio has said that it deleted; asked once more it would say 404, which proves less."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as beside:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")

        answered = beside.submit(answer)
        api = client(simulator, base_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        assert api.delete(account.sid, recording.sid) == 204
        answered.result(10)


def test_the_resource_comes_whole_also_when_it_was_deleted(simulator: Simulator, recording: SimRecording) -> None:
    """Soft-deleted resources are asked for, and `raw` is what Twilio sent."""
    api = client(simulator)
    simulator.delete(recording)
    fetched = api.fetch(recording.account_sid, recording.sid)
    assert (fetched.status, fetched.raw["status"]) == ("deleted", "deleted")
    assert fetched.raw["subresource_uris"]
    assert type(refusal(lambda: api.fetch(recording.account_sid, "RE" + "0" * 32))) is GoneError


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sid": "RE" + "0" * 32}, "resource_of_another_recording"),
        ({"account_sid": "AC" + "0" * 32}, "resource_of_another_recording"),
        ({"sid": "../x"}, "resource_malformed"),
        ({"date_created": None}, "resource_malformed"),
    ],
)
def test_a_resource_of_something_else_is_refused(
    simulator: Simulator, recording: SimRecording, change: dict[str, Any], reason: str
) -> None:
    """An answer that is not of this recording is a fault of the content."""
    simulator.inject(answer_json(lambda resource: {**resource, **change}), match=Match(endpoint="resource"))
    error = refusal(lambda: client(simulator).fetch(recording.account_sid, recording.sid))
    assert (type(error), error.reason) == (ContentError, reason)


@pytest.mark.parametrize("kind", ["html", "xml", "empty"])
def test_a_page_in_the_place_of_json_is_temporary(simulator: Simulator, recording: SimRecording, kind: Any) -> None:
    """A proxy's page with status 200 says nothing about the recording."""
    simulator.inject(ErrorPage(kind), recording.sid, Match(endpoint="resource"))
    error = refusal(lambda: client(simulator).fetch(recording.account_sid, recording.sid))
    assert (type(error), error.reason) == (TemporaryError, "twilio_answer_not_json")


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"[" * 1_000_000, b" " * (17 * 1024 * 1024)])
def test_json_that_is_no_object_or_too_long_is_temporary(
    simulator: Simulator, recording: SimRecording, body: bytes
) -> None:
    """Neither another kind of JSON nor an endless answer is read as a resource."""

    def other(_request: Request, response: Response) -> Response:
        return Response(200, {"Content-Type": "application/json"}, type(response.body)(body))  # type: ignore[call-arg]

    simulator.inject(Hook(after=other), match=Match(endpoint="resource"))
    assert type(refusal(lambda: client(simulator).fetch(recording.account_sid, recording.sid))) is TemporaryError


def test_a_list_goes_on_to_its_last_page(simulator: Simulator, account: Account) -> None:
    """All recordings come, newest first, over as many pages as Twilio makes of them."""
    began = now().replace(microsecond=0) - timedelta(hours=1)
    made = [
        simulator.record(account.sid, seconds=1.0, date_created=began + timedelta(seconds=number))
        for number in range(1001)
    ]
    simulator.delete(made.pop(500))
    listed = list(client(simulator).recordings(account.sid))
    assert [each.sid for each in listed] == [each.sid for each in reversed(made)]
    assert [event.query["PageSize"] for event in simulator.timeline] == ["1000"]


def test_pages_of_any_size_are_followed(simulator: Simulator, account: Account) -> None:
    """Twilio decides how long a page is; the query of its next page is passed on as it is."""
    made = [simulator.record(account.sid, seconds=1.0).sid for _ in range(5)]

    def shorter(page: dict[str, Any]) -> dict[str, Any]:
        following = f"{page['uri'].partition('?')[0]}?PageSize=2&Page=1&PageToken=PA{page['recordings'][1]['sid']}"
        return {**page, "recordings": page["recordings"][:2], "next_page_uri": following}

    simulator.inject(answer_json(shorter), match=Match(endpoint="list"))
    assert [each.sid for each in client(simulator).recordings(account.sid)] == made[::-1]
    assert [event.query["PageSize"] for event in simulator.timeline] == ["1000", "2", "2"]


@pytest.mark.parametrize("length", [1, 2])
def test_pages_that_repeat_are_not_read_for_ever(simulator: Simulator, account: Account, length: int) -> None:
    """A list that leads back to a page of its own is a fault of the content, after what it has shown."""
    made = simulator.record(account.sid, seconds=1.0).sid
    numbers = itertools.cycle(range(length))

    def again(page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "next_page_uri": f"{page['uri'].partition('?')[0]}?Page={next(numbers)}"}

    simulator.inject(answer_json(again), match=Match(endpoint="list"), times=None)
    listed: list[str] = []
    with pytest.raises(ContentError, match="pages_repeat"):
        listed.extend(each.sid for each in client(simulator).recordings(account.sid))
    assert set(listed) <= {made}
    assert len(simulator.timeline) == length + 1


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_data_of_an_add_on_that_was_cut_is_not_kept(
    simulator: Simulator, recording: SimRecording, framing: Any
) -> None:
    """Text that ends with its connection is not taken for the whole of it."""
    simulator.add_add_on_result(recording, data=[{"words": ["one", "two", "three"]}])
    simulator.inject(Cut(0.5, framing=framing), match=Match(endpoint="cdn"))
    error = refusal(lambda: client(simulator).add_on_results(recording.account_sid, recording.sid))
    assert (type(error), error.reason) == (TemporaryError, "twilio_unreachable")


@pytest.mark.parametrize("item", ["text", 7, None, [], {}, {"sid": None}, {"sid": ["XR"]}], ids=str)
def test_a_list_of_something_else_is_a_fault_of_the_content(
    simulator: Simulator, recording: SimRecording, item: Any
) -> None:
    """What is no object with a SID is not taken for a transcription, an add-on result or an account."""
    changed = answer_json(lambda page: {name: [item] if isinstance(page[name], list) else page[name] for name in page})
    api, sids = client(simulator), (recording.account_sid, recording.sid)
    simulator.inject(changed, times=None)
    for act in (lambda: api.transcriptions(*sids), lambda: api.add_on_results(*sids), lambda: api.subaccounts(sids[0])):
        error = refusal(act)
        assert (type(error), error.reason) == (ContentError, "list_malformed")


def test_days_are_inclusive(simulator: Simulator, account: Account) -> None:
    """Whatever Twilio's filters mean, exactly the recordings of the days asked for come."""
    noon = now().replace(hour=12, minute=0, second=0, microsecond=0)
    first = noon.date() - timedelta(days=4)
    made: dict[date, str] = {}
    for ago in range(7):
        moment = noon - timedelta(days=ago)
        made[moment.date()] = simulator.record(account.sid, seconds=1.0, date_created=moment).sid
    last_second = simulator.record(
        account.sid, seconds=1.0, date_created=noon.replace(hour=23, minute=59, second=59) - timedelta(days=2)
    )
    found = {each.sid for each in client(simulator).recordings(account.sid, first, noon.date() - timedelta(days=2))}
    assert found == {made[first + timedelta(days=number)] for number in range(3)} | {last_second.sid}
