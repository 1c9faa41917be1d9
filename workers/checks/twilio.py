"""Check one Twilio account: where its REST API is, each of its credentials, its recordings, and who is missing."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.recording import MalformedError, Recording, is_sid
from app.settings import TwilioAccount, TwilioSettings
from workers.checks.network import TIMEOUT_S, fault_of, host_fault, judge_clock
from workers.checks.results import Result, State, amber, green, red, skipped
from workers.errors import ArchiverError, GoneError, TemporaryError
from workers.twilio_api import Answer, TwilioApi

# https://www.twilio.com/docs/global-infrastructure/api-domain-migration-guide: hosts without an edge are gone.
_EDGES: Final = {"ie1": "dublin", "au1": "sydney", "jp1": "tokyo"}
# https://www.twilio.com/docs/api/errors.
_SUSPENDED: Final = 20005
_MENDS: Final = {
    _SUSPENDED: "the account is suspended or closed: reactivate it in Twilio's console",
    20008: "these are test credentials, which have no recordings: use the live ones",
    20429: "Twilio throttles this account: check again later",
}
_STRANGERS_TRIED: Final = 5


def check_account(settings: TwilioSettings, account: TwilioAccount) -> Iterator[Result]:
    """Try everything that archiving asks of one account, and look for what it would not find."""
    for judged in _host(account):
        yield judged
        if judged.state is State.RED:
            return
    answers: dict[SecretStr, Answer] = {}
    try:
        for token in account.auth_tokens:
            answers[token] = _as(account, token).ask(account.account_sid, "Recordings.json", {"PageSize": "1"})
    except TemporaryError as error:
        mend = "let this machine reach Twilio over https, and compare TWILIO_REGION and TWILIO_EDGE"
        yield red("REST API", f"{_hostname(account)}: {fault_of(error).words}", mend)
        return
    now = datetime.now(UTC)
    if answers:
        yield green("REST API", f"{_hostname(account)} answers")
        yield judge_clock("clock", answers[account.auth_tokens[-1]].date, now)
        yield _judge_tokens(list(answers.values()))
    else:
        yield skipped("auth token", "none is given, and only web needs one: the API key is used")
    working = next((token for token, answer in answers.items() if answer.status == 200), None)
    if working is not None:
        yield from _account(settings, account, working)
    if account.api_key or working is not None:
        yield from _recordings(account if account.api_key else _narrowed(account, working))


def _as(account: TwilioAccount, token: SecretStr | None = None, of: str = "") -> TwilioApi:
    """Return a client with one credential: a token, or the API key. `of` is a subaccount that a parent looks into."""
    narrowed = _narrowed(account, token)
    return TwilioApi({of or account.account_sid: narrowed}, read_timeout_s=TIMEOUT_S)


def _narrowed(account: TwilioAccount, token: SecretStr | None) -> TwilioAccount:
    if token is None:
        return account
    return account.model_copy(update={"auth_tokens": (token,), "api_key": None, "api_secret": None})


def _hostname(account: TwilioAccount) -> str:
    return str(urlsplit(account.api_base_url).hostname)


def _host(account: TwilioAccount) -> Iterator[Result]:
    """Judge region and edge by Twilio's own list of hosts, before anything is tried."""
    region, edge = account.region, account.edge
    if account.base_url or (region is None and edge is None):
        return
    found = f"region {region or 'us1'}, edge {edge or 'none'}"
    if region not in (None, "us1") and edge is None:
        known = f"set the edge to {_EDGES[region]}" if region in _EDGES else "unset the region, which has no such host"
        yield red("region", f"{found}: Twilio has switched {_hostname(account)} off", f"{known} (TWILIO_EDGE)")
    elif host_fault(_hostname(account)):
        mend = "correct TWILIO_REGION and TWILIO_EDGE: ie1 goes with dublin, au1 with sydney, jp1 with tokyo"
        yield red("region", f"{found}: there is no {_hostname(account)}", mend)
    elif region in _EDGES and edge != _EDGES[region]:
        yield amber("region", found, f"Twilio documents {region} with the edge {_EDGES[region]} only")
    else:
        yield green("region", found)


def _judge_tokens(answers: list[Answer]) -> Result:
    places = [f"{place} ({_words(answer)})" for place, answer in enumerate(answers, 1) if answer.status != 200]
    count = len(answers)
    if not places:
        return green("auth token", "Twilio accepts it" if count == 1 else f"Twilio accepts all {count}")
    refused = f"Twilio refuses number {', '.join(places)} of {count}" if count > 1 else f"refused: {_words(answers[0])}"
    if len(places) == count:
        copy = "copy the auth token of this account (and region) from Twilio's console"
        return red("auth token", refused, _mend(answers[0], copy))
    if answers[0].status != 200:
        return amber("auth token", refused, "put a token that works first: each request tries them in their order")
    return amber("auth token", refused, "leave it out once no callback that it signed is on its way")


def _account(settings: TwilioSettings, account: TwilioAccount, token: SecretStr) -> Iterator[Result]:
    """Look at the accounts that a token sees: its own one, and subaccounts."""
    try:
        listed = _as(account, token).ask(account.account_sid, "", {"PageSize": "1000"})
    except TemporaryError as error:
        yield skipped("subaccounts", fault_of(error).words)
        return
    if listed.status != 200:
        yield skipped("subaccounts", f"Twilio does not list them: {_words(listed)}")
        return
    accounts = [each for each in _items(listed, "accounts") if is_sid(each.get("sid"), "AC")]
    yield from _status(account, [each for each in accounts if each["sid"] == account.account_sid])
    yield from _strangers(settings, account, token, accounts)


def _status(account: TwilioAccount, own: list[Mapping[str, Any]]) -> Iterator[Result]:
    """Look at the account itself: whether it is active, and which token signs its callbacks."""
    for resource in own:
        status = str(resource.get("status"))
        if status != "active":
            yield red("account", f"its status is {status}", _MENDS[_SUSPENDED])
        primary = resource.get("auth_token")  # Twilio shows it to those who know a token
        if primary and primary not in [token.get_secret_value() for token in account.auth_tokens]:
            mend = "add the primary auth token: Twilio signs with it, and every callback is refused without it"
            yield red("signing token", "the account's primary auth token is not configured", mend)
        elif primary:
            yield green("signing token", "the account's primary auth token is configured")


def _strangers(
    settings: TwilioSettings, account: TwilioAccount, token: SecretStr, accounts: list[Mapping[str, Any]]
) -> Iterator[Result]:
    """Find active subaccounts that nobody archives, and whether there is anything to archive."""
    active = [str(each["sid"]) for each in accounts if each.get("status") == "active"]
    strangers = [sid for sid in active if sid not in settings.accounts]
    if not strangers:
        yield green("subaccounts", "every active one that these credentials see is configured")
        return
    named = ", ".join(strangers[:_STRANGERS_TRIED]) + (" …" if len(strangers) > _STRANGERS_TRIED else "")
    mend = "add them to TWILIO_ACCOUNTS: nobody archives their recordings"
    try:
        recorded = [sid for sid in strangers[:_STRANGERS_TRIED] if _has_recordings(account, token, sid)]
    except TemporaryError:
        recorded = []
    if recorded:
        yield red("subaccounts", f"{len(strangers)} not configured, with recordings in {', '.join(recorded)}", mend)
    else:
        yield amber("subaccounts", f"{len(strangers)} not configured: {named}", mend)


def _has_recordings(account: TwilioAccount, token: SecretStr, stranger: str) -> bool:
    answer = _as(account, token, of=stranger).ask(stranger, "Recordings.json", {"PageSize": "1"})
    return bool(_items(answer, "recordings"))


def _recordings(account: TwilioAccount) -> Iterator[Result]:
    """List, read and download as a worker does, and then without credentials."""
    sid, api = account.account_sid, TwilioApi({account.account_sid: account}, read_timeout_s=TIMEOUT_S)
    name = "API key" if account.api_key else "recordings"
    try:
        listed = api.ask(sid, "Recordings.json", {"PageSize": "1"})
        if listed.status != 200:
            mend = "correct key and secret, or give the key leave to list, read and delete recordings of this account"
            yield red(name, f"Twilio refuses to list recordings: {_words(listed)}", _mend(listed, mend))
            return
        newest = next((each for each in _items(listed, "recordings") if is_sid(each.get("sid"), "RE")), None)
        if newest is None:
            yield green(name, "may list recordings; there is none to read")
            yield skipped("media access", "there is no recording to try it with")
            return
        recording = f"Recordings/{newest['sid']}"
        read = api.ask(sid, f"{recording}.json")
        if read.status != 200:
            mend = "give the key leave to read recordings"
            yield red(name, f"may list but not read recordings: {_words(read)}", _mend(read, mend))
            return
        yield green(name, "may list and read recordings (deleting is not tried)")
        yield from _media(api, Recording.parse(newest))
    except MalformedError as error:
        yield red(name, f"the newest recording is not as Twilio documents it: {error}", "report it with its SID")
    except TemporaryError as error:
        yield red(name, fault_of(error).words, "check again; if it stays so, look at Twilio's status page")


def _media(api: TwilioApi, recording: Recording) -> Iterator[Result]:
    """Open the newest recording's media as a worker does, and then as anybody could."""
    try:
        with api.media(recording.account_sid, recording.sid, "wav", None):
            yield green("media", "the newest recording can be downloaded")
    except GoneError:
        if api.is_stored_externally(recording):
            mend = "leave this account to Twilio's external storage, or turn that off: there is nothing to archive"
            yield amber("media", "Twilio writes the recordings to storage of the account's own", mend)
        else:
            yield skipped("media access", "the newest recording has no media at Twilio")
        return
    except ArchiverError as error:
        yield red("media", error.detail, "give the key leave to read media, and see what is between here and Twilio")
        return
    path = f"Recordings/{recording.sid}.wav"
    stranger = api.ask(recording.account_sid, path, anonymously=True)
    if stranger.status < 400:
        mend = "turn on HTTP authentication for media in Twilio's console (Voice, Settings, General)"
        yield amber("media access", "whoever knows the address of a recording can listen to it", mend)
    elif stranger.status in (401, 403):
        yield green("media access", "media needs credentials")
    else:
        yield skipped("media access", f"Twilio answers {_words(stranger)} without credentials")


def _items(answer: Answer, name: str) -> list[Mapping[str, Any]]:
    items = answer.body.get(name) if isinstance(answer.body, dict) else None
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _words(answer: Answer) -> str:
    return f"{answer.status}, code {answer.code}" if answer.code else str(answer.status)


def _mend(answer: Answer, otherwise: str) -> str:
    return _MENDS.get(answer.code or 0, otherwise)
