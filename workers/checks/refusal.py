"""Find out by trying why a signed callback was not taken, and say how to mend it."""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from app.settings import WebSettings
from workers.checks.caller import Caller, Reply
from workers.checks.network import Fault
from workers.commands.callback_url import PATH

_PLACES_TRIED: Final = 10
_LOOK_TIMEOUT_S: Final = 2.0
_SIGNATURE: Final = "X-Twilio-Signature"
_REALM: Final = "Recording Archiver"
_SAME_URL: Final = "start every process with the same PUBLIC_URL, the one that Twilio is given"
_CERTIFICATE: Final = "use a certificate of a public authority for this name, in date and with its whole chain"

Verdict = tuple[str, str]


def is_ours(reply: Reply) -> bool:
    """Tell whether an error answer is the archiver's."""
    return bool(reply.problem) or _REALM in reply.headers.get("www-authenticate", "")


def is_refusal(reply: Reply) -> bool:
    """Tell whether the archiver itself refused a signature."""
    return reply.status == 403 and reply.problem.get("field") == _SIGNATURE


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is needed to try other ways."""

    settings: WebSettings
    caller: Caller

    def unreachable(self, fault: Fault) -> str:
        """Return the mend when nothing answers: another address that answers, or what the fault means."""
        if fault.kind == "certificate":
            return _CERTIFICATE
        if base := self.elsewhere():
            return f"the archiver answers at {base}: set PUBLIC_URL to it, or let what is in front lead there"
        mends = {
            "name": "correct the host in PUBLIC_URL, or its DNS entry",
            "refused": "start web, and mend host and port in PUBLIC_URL",
            "timeout": "let this machine reach PUBLIC_URL (firewall, security group), and see whether web runs",
            "tls": "let something serve TLS at this port, or correct the port in PUBLIC_URL",
        }
        return mends.get(fault.kind, "see whether web runs and what is in front of it")

    def elsewhere(self) -> str | None:
        """Look for the archiver under other schemes, ports and prefixes; return the first origin where it is."""
        for base in _variants(self.settings.PUBLIC_URL)[:_PLACES_TRIED]:
            reply = self.caller.get(f"{base}/healthz", timeout_s=_LOOK_TIMEOUT_S)
            if (reply.status, reply.body.strip()) == (200, b"ok"):
                return base
        return None

    def signature(self) -> Verdict:
        """Try other keys and URLs until one is taken, which says what the web process has instead of ours."""
        main = self.settings.accounts[self.settings.TWILIO_ACCOUNT_SID]
        tokens = [token.get_secret_value() for token in main.auth_tokens]
        for place, token in enumerate(tokens[1:], 2):
            if self._takes(main.account_sid, token):
                mend = "give web the whole TWILIO_AUTH_TOKEN, in the same order, and start it again"
                return f"the web process knows auth token {place} but not the first", mend
        for account in self.settings.TWILIO_ACCOUNTS:
            signing = [token.get_secret_value() for token in account.auth_tokens[:1]]
            if any(self._takes(account.account_sid, token) for token in signing):
                mend = "give web the same TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, and start it again"
                return "the web process has another auth token for the main account, or another main account", mend
        for token in tokens:
            for url in _variants(self.settings.PUBLIC_URL):
                if self._takes(main.account_sid, token, url):
                    return f"the web process has {_difference(self.settings.PUBLIC_URL, url)}", _SAME_URL
        if self._loses_header(main.account_sid, tokens[0]):
            mend = f"let the proxy in front pass {_SIGNATURE} on"
            return f"the header {_SIGNATURE} is lost on the way", mend
        mend = f"{_SAME_URL}, and the same TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN"
        return "the web process has another host in PUBLIC_URL, or other auth tokens (no other way was taken)", mend

    def _takes(self, account_sid: str, token: str, sign_for: str = "") -> bool:
        return self.caller.call(account_sid, token, sign_for=sign_for).status == 204

    def _loses_header(self, account_sid: str, token: str) -> bool:
        """Compare what the web process counts: a signed callback must not count as one without a signature."""
        before = self.caller.outcomes()
        self.caller.call(account_sid, token)
        after = self.caller.outcomes()
        return after.get("signature_missing", 0) > before.get("signature_missing", 0)


def explain(diagnosis: Diagnosis, reply: Reply) -> Verdict:
    """Say what was found and the mend for a signed POST that was not answered 204."""
    if is_refusal(reply):
        return diagnosis.signature()
    status = reply.status
    if 300 <= status < 400:
        return _redirected(diagnosis.settings, reply)
    if status == 401:
        return _unauthenticated(diagnosis.settings, reply)
    if status == 503 and is_ours(reply):
        return "the web process can't reach its queue", "give web the REDIS_URL that is checked here"
    if is_ours(reply) and status != 404:
        mend = "let what is in front pass method, body and headers on as they are"
        return f"answered {status}: the callback was altered on the way", mend
    if base := diagnosis.elsewhere():
        mend = f"set PUBLIC_URL to {base}, or let what is in front lead {urlsplit(_url(diagnosis)).path} there"
        return f"answered {status}: {_url(diagnosis)} does not lead to the archiver, {base} does", mend
    mends = {
        403: f"exempt {PATH} from the firewall or login in front of web",
        404: f"let what is in front lead {urlsplit(_url(diagnosis)).path} to web, or correct the path in PUBLIC_URL",
    }
    if status in mends:
        return f"answered {status} by something in front of web, not by the archiver", mends[status]
    if status >= 500:
        return f"answered {status} by something in front of web", "start web, and lead the proxy to its PORT"
    return f"answered {status} by something that is not the archiver", "correct PUBLIC_URL, or what it leads to"


def _url(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.settings.PUBLIC_URL}{PATH}"


def _redirected(settings: WebSettings, reply: Reply) -> Verdict:
    found = f"redirected ({reply.status}) to {reply.location}; Twilio would follow with GET and lose the fields"
    target, ours = urlsplit(reply.location), urlsplit(settings.PUBLIC_URL)
    if target.netloc and target.path.endswith(PATH):
        base = f"{target.scheme}://{target.netloc}{target.path.removesuffix(PATH)}"
        kind = "scheme" if target.netloc == ours.netloc and target.scheme != ours.scheme else "host"
        return found, f"wrong {kind}: set PUBLIC_URL to {base}"
    return found, f"let what is in front answer {PATH} without a redirect"


def _unauthenticated(settings: WebSettings, reply: Reply) -> Verdict:
    if not is_ours(reply):
        return "answered 401 by something in front of web", f"exempt {PATH} from the login in front of web"
    if settings.WEBHOOK_USERNAME is None:
        mend = "set WEBHOOK_USERNAME and WEBHOOK_PASSWORD as web has them, or unset them there"
        return "the web process asks for credentials, and WEBHOOK_USERNAME is unset here", mend
    mend = "give every process the same WEBHOOK_USERNAME and WEBHOOK_PASSWORD"
    return "the web process refuses the credentials (or a proxy in front drops Authorization)", mend


def _variants(public_url: str) -> list[str]:
    """Return what PUBLIC_URL may be instead, what differs least first."""
    parts = urlsplit(public_url)
    netloc, port = parts.netloc, parts.port
    bare = netloc.rpartition(":")[0] if port else netloc
    hosts = [netloc, bare, netloc.lower()]
    if other := {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}.get(bare):
        hosts.append(netloc.replace(bare, other))
    elif re.search(r"[a-z]\.[a-z]+$", bare, re.IGNORECASE):
        hosts.append(netloc.removeprefix("www.") if netloc.startswith("www.") else f"www.{netloc}")
    schemes = (parts.scheme, "http" if parts.scheme == "https" else "https")
    found = [
        ((host != netloc) + (scheme != parts.scheme) + (path != parts.path), f"{scheme}://{host}{path}")
        for path in (parts.path, "")
        for scheme in schemes
        for host in hosts
    ]
    ordered = dict.fromkeys(url for _, url in sorted(found, key=lambda each: each[0]))
    return [url for url in ordered if url != public_url]


def _difference(ours: str, theirs: str) -> str:
    """Name the parts in which the web process's PUBLIC_URL differs."""
    mine, its = urlsplit(ours), urlsplit(theirs)
    pairs = (
        ("scheme", mine.scheme, its.scheme),
        ("host", mine.netloc.partition(":")[0], its.netloc.partition(":")[0]),  # in its case: that is signed
        ("port", mine.port, its.port),
        ("prefix", mine.path, its.path),
    )
    names = [name for name, ours_has, theirs_has in pairs if ours_has != theirs_has]
    if mine.port and its.port is None:  # it takes a URL without a port whatever its own is
        return f"another {' and '.join(names)} in PUBLIC_URL"
    return f"another {' and '.join(names)} in PUBLIC_URL: {theirs}"
