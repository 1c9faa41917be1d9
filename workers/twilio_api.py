"""The one client of Twilio's REST API: the resource, the media stream, pages of recordings, and DELETE.

URLs are built from the configured host and validated SIDs only, never from anything that Twilio or a callback sent.
Answers become our errors (`workers.errors`), split by what the caller must do.
Source: https://www.twilio.com/docs/voice/api/recording.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from time import sleep
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
import structlog
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import parse_url

from app.recording import MalformedError, Recording, is_sid, utc, utc_day
from app.settings import TwilioAccount
from workers.answers import PlainSession, as_json_or_text, error_code, read_body, read_json, retry_after_s
from workers.errors import (
    ArchiverError,
    ConfigurationError,
    ContentError,
    GoneError,
    NoSuchLayoutError,
    TemporaryError,
    ThrottledError,
)
from workers.judgement import Source
from workers.metrics import TWILIO_ANSWERS, TWILIO_CREDENTIALS

_CONNECT_TIMEOUT_S: Final = 5.0
_READ_TIMEOUT_S: Final = 20.0  # also how long a media stream may stand still
_PAGE_SIZE: Final = 1000
_PAGE_PAUSES_S: Final = (0.5, 2.0, 8.0)  # before the next attempt; with Retry-After at least that
_MAX_PAGE_PAUSE_S: Final = 60.0
_MAX_REDIRECTS: Final = 2
CURRENT: Final = "Twilio.CURRENT"  # instead of a SID: the only recording that a call has at the moment
_MEDIA_HOSTS: Final = (".twilio.com", ".twiliocdn.com", ".amazonaws.com")

log = structlog.get_logger()

Query = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class MediaAnswer:
    """An open media download with status 200: the headers, and the body as it comes over the wire."""

    content_type: str
    content_length: int | None
    body: urllib3.BaseHTTPResponse


class ListedRecording(NamedTuple):
    """One recording of Twilio's list, as far as an audit looks at it."""

    sid: str
    day: date
    source: Source


@dataclass(frozen=True, slots=True)
class Answer:
    """What Twilio answered, whatever it was: `code` is its own error code, `body` JSON or None, `date` the header."""

    status: int
    code: int | None
    date: str
    body: Any


def _connected(connections: int) -> requests.Session:
    session = PlainSession()
    session.headers["Accept-Encoding"] = "identity"
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=8, pool_maxsize=connections, max_retries=0))
    return session


class TwilioApi:
    """Speaks to Twilio for every configured account. Thread-safe; keeps connections alive."""

    def __init__(
        self,
        accounts: Mapping[str, TwilioAccount],
        connections: int = 8,
        read_timeout_s: float = _READ_TIMEOUT_S,
        *,
        session: requests.Session | None = None,
        pause: Callable[[float], None] = sleep,
    ) -> None:
        """Take the accounts; `session` sends requests instead of one with connections, `pause` waits for seconds."""
        self._accounts = accounts
        self._pause = pause
        self._places = {sid: str(place) for place, sid in enumerate(accounts)}
        self._timeouts_s = (_CONNECT_TIMEOUT_S, read_timeout_s)
        self._session = session or _connected(connections)

    def fetch(self, account_sid: str, recording_sid: str) -> Recording:
        """Return the Recording resource, also a soft-deleted one.

        Raises `GoneError` when Twilio knows of none, `ContentError` when the answer is no recording of this SID.
        """
        raw = self._get_json(account_sid, f"Recordings/{recording_sid}.json", {"IncludeSoftDeleted": "true"})
        recording = _parse(raw)
        if (recording.account_sid, recording.sid) != (account_sid, recording_sid):
            raise ContentError("resource_of_another_recording", "Twilio answered with another SID than was asked for")
        return recording

    def recordings(
        self,
        account_sid: str,
        created_from: date | None = None,
        created_to: date | None = None,
    ) -> Iterator[Recording]:
        """Yield the account's recordings, newest first, one page at a time.

        Both bounds are UTC days and inclusive. An item that is not as documented is left out and logged: it must not
        hide all that are older than it.
        """
        query = _list_query(created_from, created_to)
        for raw in self._all_items(account_sid, "Recordings.json", "recordings", query):
            try:
                recording = Recording.parse(raw)
            except MalformedError as error:
                log.error("listed_recording_malformed", account_sid=account_sid, detail=str(error))
                continue
            if (created_from is None or recording.day >= created_from) and (
                created_to is None or recording.day <= created_to
            ):
                yield recording

    def listed(self, account_sid: str, created_from: date, created_to: date) -> Iterator["ListedRecording"]:
        """Yield what the audit needs of every recording in the list, soft-deleted ones included, newest first.

        Both bounds are UTC days and inclusive. Raises `ContentError` for an item that can't be filed: an audit must
        not leave anything out.
        """
        query = _list_query(created_from, created_to) | {"IncludeSoftDeleted": "true"}
        for raw in self._all_items(account_sid, "Recordings.json", "recordings", query, patiently=True):
            try:
                listed = self._listed(account_sid, raw)
            except (KeyError, ValueError, TypeError, OverflowError) as error:
                raise ContentError("resource_malformed", "an item of Twilio's list is not as documented") from error
            if created_from <= listed.day <= created_to:
                yield listed

    def _listed(self, account_sid: str, raw: Mapping[str, Any]) -> ListedRecording:
        if raw["account_sid"] != account_sid or not is_sid(raw["sid"], "RE"):
            raise ValueError("an item of another account, or without a SID")
        status, created = str(raw["status"]), raw["date_created"]
        changed = utc(raw.get("date_updated") or created)
        if status == "completed" and raw.get("duration"):
            # As the sweep counts: from the recording's end, if Twilio has not said anything later.
            started = utc(raw.get("start_time") or created)
            changed = max(changed, started + timedelta(seconds=int(raw["duration"])))
        source = Source(
            status=status,
            error_code=int(raw["error_code"]) if raw.get("error_code") else None,
            stored_externally=self._is_elsewhere(account_sid, raw.get("media_url")),
            changed=changed,
        )
        return ListedRecording(raw["sid"], utc_day(created), source)

    def subaccounts(self, account_sid: str) -> list[str]:
        """Return the SIDs of the active accounts that these credentials can see, the account itself included.

        Raises `ConfigurationError` where they may not list accounts, as with a standard API key.
        """
        items = self._objects(account_sid, "", "accounts", {"Status": "active", "PageSize": str(_PAGE_SIZE)})
        return [str(item["sid"]) for item in items if is_sid(item["sid"], "AC")]

    def recordings_of(self, account_sid: str, kind: str, sid: str) -> Iterator[Recording]:
        """Yield every recording of a call or conference (`kind`), newest first, soft-deleted ones too."""
        query = {f"{kind.title()}Sid": sid, "IncludeSoftDeleted": "true", "PageSize": str(_PAGE_SIZE)}
        for raw in self._all_items(account_sid, "Recordings.json", "recordings", query):
            yield _parse(raw)

    @contextmanager
    def media(
        self, account_sid: str, recording_sid: str, extension: str, channels: int | None
    ) -> Iterator[MediaAnswer]:
        """Open the media download; `channels` is 2, 1 or None (as stored).

        Raises `NoSuchLayoutError` on 400, `GoneError` on 404 (not ready, deleted or stored externally: ask the
        resource which). Redirects are followed at most twice, to Twilio's media hosts, without credentials.
        """
        query = {} if channels is None else {"RequestedChannels": str(channels)}
        with self._open(account_sid, f"Recordings/{recording_sid}.{extension}", query) as answer:
            if answer.status_code == 400:
                raise NoSuchLayoutError(400, error_code(answer))
            _raise_for_status(answer)
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise ContentError("media_encoded", "Twilio compressed the media although identity was asked for")
            length = answer.headers.get("Content-Length", "")
            yield MediaAnswer(
                content_type=answer.headers.get("Content-Type", "").partition(";")[0].strip().lower(),
                content_length=int(length) if length.isascii() and length.isdigit() else None,
                body=answer.raw,
            )

    def transcriptions(self, account_sid: str, recording_sid: str) -> list[Mapping[str, Any]]:
        """Return every transcription of a recording as Twilio gives it. Raises `GoneError` on 404."""
        return list(self._objects(account_sid, f"Recordings/{recording_sid}/Transcriptions.json", "transcriptions"))

    def add_on_results(self, account_sid: str, recording_sid: str) -> list[Mapping[str, Any]]:
        """Return every add-on result of a recording as Twilio gives it, each with its `payloads` and their `data`.

        Raises `GoneError` on 404. Data that is not JSON is kept as text.
        """
        base = f"Recordings/{recording_sid}/AddOnResults"
        results: list[Mapping[str, Any]] = []
        for result in self._objects(account_sid, f"{base}.json", "add_on_results"):
            sid = result["sid"]
            if not is_sid(sid, "XR"):
                raise ContentError("add_on_result_malformed", "an add-on result without a SID")
            payloads = []
            for payload in self._objects(account_sid, f"{base}/{sid}/Payloads.json", "payloads"):
                path = f"{base}/{sid}/Payloads/{payload['sid']}/Data.json"
                if not is_sid(payload["sid"], "XH"):
                    raise ContentError("add_on_result_malformed", "a payload without a SID")
                with self._open(account_sid, path, {}) as answer:
                    _raise_for_status(answer)
                    payloads.append({**payload, "data": as_json_or_text(read_body(answer))})
            results.append({**result, "payloads": payloads})
        return results

    def is_stored_externally(self, recording: Recording) -> bool:
        """Tell whether Twilio wrote the media to storage of the account's own: `media_url` is at another host."""
        return self._is_elsewhere(recording.account_sid, recording.media_url)

    def _is_elsewhere(self, account_sid: str, media_url: object) -> bool:
        if not media_url:
            return False
        return _is_other_host("/".join(str(media_url).split("/", 3)[:3]), self._accounts[account_sid].api_base_url)

    def start_recording(self, account_sid: str, call_sid: str, form: Mapping[str, str]) -> Recording:
        """Start recording a live call, as the fields of `form` say; never repeated by itself.

        Raises `GoneError` when the account has no such call, `ArchiverError` when the call can't be recorded now.
        Source: https://www.twilio.com/docs/voice/api/recording#create-a-recording-resource.
        """
        return self._post(account_sid, call_sid, "Recordings.json", form, expected=201)

    def change_recording(
        self, account_sid: str, call_sid: str, recording_sid: str, form: Mapping[str, str]
    ) -> Recording:
        """Pause, resume or stop the recording of a live call; `recording_sid` may be `CURRENT`.

        Raises `GoneError` when the account has no such call or recording, `ArchiverError` when it can't be changed.
        """
        return self._post(account_sid, call_sid, f"Recordings/{recording_sid}.json", form, expected=200)

    def _post(self, account_sid: str, call_sid: str, path: str, form: Mapping[str, str], *, expected: int) -> Recording:
        with self._send("POST", account_sid, f"Calls/{call_sid}/{path}", {}, form) as answer:
            if answer.status_code == 400:
                mend = "the call must be live, and of several recordings one must be named"
                raise ArchiverError("not_recordable", f"Twilio answered 400 with code {error_code(answer)}; {mend}")
            _raise_for_status(answer, expected)
            recording = _parse(read_json(answer))
        if (recording.account_sid, recording.call_sid) != (account_sid, call_sid):
            raise ContentError("resource_of_another_recording", "Twilio answered with another call than was asked for")
        return recording

    def delete(self, account_sid: str, recording_sid: str) -> int:
        """Delete the recording at Twilio and return the status of the answer: 204, or 404 when it was gone already.

        Only `deletion.py` calls this, after the checks of invariant 1. Raises when anything else was answered.
        """
        with self._send("DELETE", account_sid, f"Recordings/{recording_sid}.json", {}) as answer:
            if answer.status_code != 404:
                _raise_for_status(answer, expected=204)
                with suppress(TemporaryError):  # it was answered, whatever follows
                    read_body(answer)  # of nothing: the connection is kept for the question whether it is gone
            return answer.status_code

    def ask(self, account_sid: str, path: str, query: Query | None = None, *, anonymously: bool = False) -> Answer:
        """Send a GET with the account's first credentials, or with none, and return whatever is answered.

        For `archiver check`, which wants to know what exactly is refused. An empty `path` is the list of accounts.
        Raises `TemporaryError` when nothing is answered; the error that led to it is its context.
        """
        account = self._accounts[account_sid]
        url = account.api_base_url + self._path(account_sid, path)
        with self._request("GET", url, query or {}, None if anonymously else _credentials(account)[0]) as answer:
            is_json = answer.headers.get("Content-Type", "").partition(";")[0].endswith("json")
            body = as_json_or_text(read_body(answer)) if is_json else None
        code = body.get("code") if isinstance(body, dict) else None
        date = answer.headers.get("Date", "")
        return Answer(answer.status_code, code if isinstance(code, int) else None, date, body)

    def _objects(
        self, account_sid: str, path: str, name: str, query: Query | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the items of a list. Raises `ContentError` for one that is no object with a SID."""
        for item in self._all_items(account_sid, path, name, query):
            if not (isinstance(item, dict) and isinstance(item.get("sid"), str)):
                raise ContentError("list_malformed", f"an item of Twilio's {name} is not as documented")
            yield item

    def _all_items(
        self, account_sid: str, path: str, name: str, query: Query | None = None, *, patiently: bool = False
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the items of a list, page by page; every page is asked of the configured host.

        `patiently`: wait for the first page as for the others, where nobody would come again soon.
        """
        first = self._get_page if patiently else self._get_json
        page = first(account_sid, path, query or {})
        asked: set[str] = set()
        while True:
            items = page.get(name)
            if not isinstance(items, list):
                raise TemporaryError("twilio_answer_not_json", f"Twilio answered a page without {name}")
            yield from items
            following = urlsplit(str(page.get("next_page_uri") or ""))
            if not following.path:
                return
            if following.path != self._path(account_sid, path):
                raise ContentError("page_elsewhere", "Twilio's next page is not of the list that was asked for")
            if following.query in asked:
                raise ContentError("pages_repeat", "Twilio's next page is one that was read already")
            asked.add(following.query)
            page = self._get_page(account_sid, path, parse_qsl(following.query, keep_blank_values=True))

    def _get_page(self, account_sid: str, path: str, query: Query) -> dict[str, Any]:
        """Ask for a page, patiently: a list of a thousand pages must not end at the first 429 or broken connection."""
        for pause_s in _PAGE_PAUSES_S:
            try:
                return self._get_json(account_sid, path, query)
            except TemporaryError as error:
                log.info("page_failed", reason=error.reason, detail=error.detail)
                self._pause(min(max(pause_s, error.retry_after_s or 0.0), _MAX_PAGE_PAUSE_S))
        return self._get_json(account_sid, path, query)

    def _get_json(self, account_sid: str, path: str, query: Query) -> dict[str, Any]:
        with self._send("GET", account_sid, path, query) as answer:
            _raise_for_status(answer)
            raw = read_json(answer)
        if not isinstance(raw, dict):
            raise TemporaryError("twilio_answer_not_json", "Twilio answered 200 without a JSON object")
        return raw

    @contextmanager
    def _open(self, account_sid: str, path: str, query: Query) -> Iterator[requests.Response]:
        """Send a GET and follow its redirects: https only, to known hosts, never with credentials to another one."""
        with self._send("GET", account_sid, path, query) as answer:
            current, hops = answer, 0
            try:
                while current.is_redirect:
                    hops += 1
                    url = _redirect_target(current, hops)
                    if current is not answer:
                        current.close()
                    current = self._request("GET", url, {}, auth=None)
                yield current
            finally:
                current.close()

    @contextmanager
    def _send(
        self, method: str, account_sid: str, path: str, query: Query, form: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """Send an authenticated request; during a rotation the next token is tried on a 401."""
        account = self._accounts.get(account_sid)
        if account is None:
            raise ConfigurationError("account_not_configured", "add the account to TWILIO_ACCOUNTS")
        url = account.api_base_url + self._path(account_sid, path)
        first, *others = _credentials(account)
        answer, place = self._request(method, url, query, auth=first, form=form), 0
        for credentials in others:
            if answer.status_code != 401:
                break
            answer.close()
            answer, place = self._request(method, url, query, auth=credentials, form=form), place + 1
        TWILIO_ANSWERS.labels(method, str(answer.status_code)).inc()
        if answer.status_code != 401:
            TWILIO_CREDENTIALS.labels(self._places[account_sid], str(place)).inc()
        try:
            yield answer
        finally:
            answer.close()

    def _request(
        self, method: str, url: str, query: Query, auth: tuple[str, str] | None, form: Mapping[str, str] | None = None
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                url,
                params=query if isinstance(query, Mapping) else list(query),
                data=form,
                auth=auth or _anonymous,
                timeout=self._timeouts_s,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            # The exception's text holds the URL and its query; its type says enough.
            raise TemporaryError("twilio_unreachable", type(error).__name__) from None

    @staticmethod
    def _path(account_sid: str, path: str) -> str:
        """Return the path of something of an account; an empty `path` is the list of accounts itself."""
        return f"/2010-04-01/Accounts/{account_sid}/{path}" if path else "/2010-04-01/Accounts.json"


def _list_query(created_from: date | None, created_to: date | None) -> dict[str, str]:
    """Ask for a day more on either side: Twilio's bounds are moments, and what is outside is left out by the caller."""
    query = {"PageSize": str(_PAGE_SIZE)}
    if created_from is not None:
        query["DateCreated>"] = (created_from - timedelta(days=1)).isoformat()
    if created_to is not None:
        query["DateCreated<"] = (created_to + timedelta(days=2)).isoformat()
    return query


@lru_cache(maxsize=64)
def _is_other_host(origin: str, base_url: str) -> bool:
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        host = None
    if host is None:
        return False  # what names no host is no storage of the account's own
    return host != urlsplit(base_url).hostname and not f".{host}".endswith(_MEDIA_HOSTS[:2])


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _credentials(account: TwilioAccount) -> list[tuple[str, str]]:
    if account.api_key and account.api_secret:
        return [(account.api_key, account.api_secret.get_secret_value())]
    return [(account.account_sid, token.get_secret_value()) for token in account.auth_tokens]


def _redirect_target(answer: requests.Response, hops: int) -> str:
    if hops > _MAX_REDIRECTS:
        raise TemporaryError("media_redirect_loop", f"Twilio redirected the media more than {_MAX_REDIRECTS} times")
    try:
        url = urljoin(answer.url, answer.headers.get("Location", ""))
        target, origin = parse_url(url), parse_url(answer.url)  # as the connection is made: parsers disagree on hosts
    except ValueError:
        raise ConfigurationError("media_redirect_refused", "Twilio redirected the media to no address") from None
    same_origin = (target.scheme, target.netloc) == (origin.scheme, origin.netloc)
    known = target.scheme == "https" and f".{target.host}".endswith(_MEDIA_HOSTS)
    if not (same_origin or known):
        raise ConfigurationError("media_redirect_refused", f"Twilio redirected the media to {target.host}")
    return url


def _raise_for_status(answer: requests.Response, expected: int = 200) -> None:
    status = answer.status_code
    if status == expected:
        return
    detail = f"Twilio answered {status} with code {error_code(answer)}"
    if status in (401, 403):
        raise ConfigurationError("twilio_refused", f"{detail}; check the credentials and their permissions")
    if status == 404:
        raise GoneError("twilio_not_found", detail)
    if status == 429:
        raise ThrottledError("twilio_throttled", detail, retry_after_s=retry_after_s(answer))
    raise TemporaryError("twilio_failed", detail, retry_after_s=retry_after_s(answer))


def _parse(raw: Mapping[str, Any]) -> Recording:
    try:
        return Recording.parse(raw)
    except MalformedError as error:
        raise ContentError("resource_malformed", str(error)) from None
