"""Check the callback endpoint through PUBLIC_URL, in the way in which Twilio reaches it."""

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from app.settings import WebSettings
from workers.checks.caller import Caller, Form, Reply
from workers.checks.refusal import Diagnosis, explain, is_refusal
from workers.checks.results import Result, amber, green, red, skipped

_SLOW_S: Final = 2.0
_WRONG_KEY: Final = "not-the-auth-token-of-anybody"


def check_web(settings: WebSettings) -> Iterator[Result]:
    """Ask for the health pages, send signed callbacks of every kind, and see that no other ones are taken."""
    caller, account_sid = Caller(settings), settings.TWILIO_ACCOUNT_SID
    token = settings.accounts[account_sid].auth_tokens[0].get_secret_value()
    addresses = _addresses(settings.PUBLIC_URL)
    yield from _address(settings.PUBLIC_URL, addresses)
    posted = caller.call(account_sid, token)
    diagnosis = Diagnosis(settings, caller)
    if posted.fault:
        yield red("reached", f"{settings.PUBLIC_URL}: {posted.words}", diagnosis.unreachable(posted.fault))
        return
    taken = posted.status == 204
    yield from _health(caller, settings, taken)
    if taken:
        yield green("signed POST", "taken as Twilio's")
    else:
        yield red("signed POST", *explain(diagnosis, posted))
        yield skipped("other callbacks", "the POST has to be taken first")
        return
    replies = [posted]
    for form in (Form.GET, Form.JSON):
        replies.append(reply := caller.call(account_sid, token, form=form))
        yield _other_form(form, reply)
    yield _keys(settings, caller)
    yield _strangers(caller, account_sid)
    yield _credentials(settings, caller.call(account_sid, token, basic=False))
    slowest = max(reply.seconds for reply in replies)
    if slowest > _SLOW_S:
        mend = "bring web and Redis closer together, or give web more processes; Twilio waits 15 s in all"
        yield amber("speed", f"the slowest answer took {slowest:.1f} s", mend)
    else:
        yield green("speed", f"the slowest answer took {slowest * 1000:.0f} ms")


def _addresses(public_url: str) -> list[str]:
    """Return the IP addresses behind a URL's host; none when it is not known."""
    try:
        found = socket.getaddrinfo(urlsplit(public_url).hostname, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return sorted({str(each[4][0]).partition("%")[0] for each in found})


def _address(public_url: str, addresses: list[str]) -> Iterator[Result]:
    private = [address for address in addresses if not ip_address(address).is_global]
    if private:
        found = f"from here it is {private[0]}, which Twilio can't reach"
        yield amber("address", found, "set PUBLIC_URL to the name and port under which the internet reaches web")
    elif addresses:
        yield green("address", f"{urlsplit(public_url).hostname} is public")
    if urlsplit(public_url).scheme == "http":
        mend = "serve TLS in front of web and begin PUBLIC_URL with https://"
        yield amber("encryption", "PUBLIC_URL is http: callbacks and their signatures can be read on the way", mend)


def _health(caller: Caller, settings: WebSettings, taken: bool) -> Iterator[Result]:
    """Ask for `/healthz` and `/readyz`; when callbacks are taken, a proxy may keep those pages to itself."""
    url = settings.PUBLIC_URL
    alive, ready = caller.get(f"{url}/healthz"), caller.get(f"{url}/readyz")
    if alive.status == 200 and alive.body.strip() == b"ok":
        yield green("/healthz", "the web process answers")
    elif taken:
        yield skipped("/healthz", f"answered {alive.words}: it is not the web process's, but callbacks are taken")
    else:
        yield red("/healthz", f"answered {alive.words}, not as the web process does", "see the next line")
    if ready.status == 200 and ready.body.strip() == b"ready":
        yield green("/readyz", "the web process reaches its Redis")
    elif ready.status == 503 and ready.problem:
        mend = "give web the REDIS_URL and REDIS_TLS_VERIFY that are checked here, and start it again"
        yield red("/readyz", "the web process does not reach its Redis", mend)
    elif taken:
        yield skipped("/readyz", f"answered {ready.words}: it is not the web process's, but callbacks are taken")


def _other_form(form: Form, reply: Reply) -> Result:
    name = f"signed {form}"
    if reply.status == 204:
        return green(name, "taken as Twilio's")
    if is_refusal(reply):
        mend = "let the proxy in front pass the query on as it is: the signature covers it"
        return amber(name, "refused (403) although the POST is taken: something in front rewrites the query", mend)
    if 300 <= reply.status < 400:
        return amber(name, f"redirected to {reply.location}", "let the proxy in front answer without a redirect")
    mend = f"let the proxy in front pass {'GET' if form is Form.GET else 'application/json'} on to /recording-status"
    return amber(name, f"answered {reply.words} although the POST is taken", mend)


def _keys(settings: WebSettings, caller: Caller) -> Result:
    """Sign with every configured key; what is accepted here but not by the web process is another environment's."""
    refused, count = [], 0
    for account in settings.accounts.values():
        keys = [("", token.get_secret_value()) for token in account.auth_tokens]
        keys += [(name, key.get_secret_value()) for name, key in account.shared_keys.items()]
        for place, (shared, key) in enumerate(keys, 1):
            count += 1
            if caller.call(account.account_sid, key, shared_key=shared).status != 204:
                what = "a shared key" if shared else f"auth token {place}"
                refused.append(f"{what} of {account.account_sid}")
    if refused:
        mend = "give web the same TWILIO_AUTH_TOKEN and TWILIO_ACCOUNTS as here, and start it again"
        return red("signing keys", f"the web process refuses {', '.join(refused[:3])}", mend)
    return green("signing keys", f"all {count} are accepted" if count > 1 else "the auth token is accepted")


def _strangers(caller: Caller, account_sid: str) -> Result:
    """Send what nobody must be able to send: without a signature, and with a wrong one."""
    for what, key in (("without a signature", ""), ("with a wrong signature", _WRONG_KEY)):
        reply = caller.call(account_sid, key)
        if reply.status < 300 and not reply.fault:
            mend = "let the archiver's own web process answer /recording-status, and nothing in front of it"
            return red("forged callbacks", f"a callback {what} is answered {reply.words}, not 403", mend)
    return green("forged callbacks", "refused, without a signature and with a wrong one")


def _credentials(settings: WebSettings, reply: Reply) -> Result:
    """Judge what comes when no credentials are given: Twilio asks first and repeats after a Basic challenge."""
    name = "credentials"
    if settings.WEBHOOK_USERNAME is None:
        return green(name, "none are asked for (WEBHOOK_USERNAME is unset)")
    if reply.status == 401 and reply.headers.get("www-authenticate", "").lower().startswith("basic"):
        return green(name, "asked for, and right")
    if reply.status == 401:
        mend = "let the proxy in front pass WWW-Authenticate on: Twilio repeats only after that"
        return red(name, "asked for without WWW-Authenticate: Basic", mend)
    mend = "give web the same WEBHOOK_USERNAME and WEBHOOK_PASSWORD as here, and start it again"
    return red(name, f"not asked for: without them a callback is answered {reply.words}", mend)
