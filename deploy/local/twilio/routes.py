"""Read a path of Twilio's REST API: which endpoint it means and which SIDs it names."""

from __future__ import annotations

import re

_AC, _RE = "(?P<account_sid>AC[0-9a-fA-F]{32})", "(?P<recording_sid>RE[0-9a-fA-F]{32})"
_OF_ACCOUNT = f"/2010-04-01/Accounts/{_AC}"
_OF_RECORDING = f"{_OF_ACCOUNT}/Recordings/{_RE}"
_CA, _CF = "(?P<call_sid>CA[0-9a-fA-F]{32})", "(?P<conference_sid>CF[0-9a-fA-F]{32})"
_OF_PARENT = f"{_OF_ACCOUNT}/(?:Calls/{_CA}|Conferences/{_CF})"
_PAYLOAD = "(?P<payload_sid>XH[0-9a-fA-F]{32})"
_RESULT = r"/AddOnResults/(?P<result_sid>XR[0-9a-fA-F]{32})"

# Each path with the endpoint that each method means. The order matters only for readers: paths are exclusive.
_ROUTES: tuple[tuple[re.Pattern[str], dict[str, str]], ...] = tuple(
    (re.compile(pattern), methods)
    for pattern, methods in (
        (r"/2010-04-01/Accounts\.json", {"GET": "accounts"}),
        (rf"{_OF_ACCOUNT}\.json", {"GET": "account"}),
        (rf"{_OF_ACCOUNT}/Recordings\.json", {"GET": "list"}),
        (rf"{_OF_PARENT}/Recordings\.json", {"GET": "list", "POST": "start"}),
        (
            rf"{_OF_PARENT}/Recordings/(?P<recording_sid>RE[0-9a-fA-F]{{32}}|Twilio\.CURRENT)\.json",
            {"GET": "resource", "POST": "update", "DELETE": "delete"},
        ),
        (rf"{_OF_RECORDING}\.json", {"GET": "resource", "DELETE": "delete"}),
        (rf"{_OF_RECORDING}(?:\.(?P<extension>wav|mp3))?", {"GET": "media", "DELETE": "delete"}),
        (rf"{_OF_RECORDING}/Transcriptions\.json", {"GET": "transcriptions"}),
        (
            rf"(?:{_OF_RECORDING}|{_OF_ACCOUNT.replace('account_sid', 'account')})"
            r"/Transcriptions/(?P<transcription_sid>TR[0-9a-fA-F]{32})\.json",
            {"GET": "transcriptions"},
        ),
        (rf"{_OF_RECORDING}/AddOnResults\.json", {"GET": "addons"}),
        (rf"{_OF_RECORDING}{_RESULT}\.json", {"GET": "addons"}),
        (rf"{_OF_RECORDING}{_RESULT}/Payloads\.json", {"GET": "addons"}),
        (rf"{_OF_RECORDING}{_RESULT}/Payloads/{_PAYLOAD}\.json", {"GET": "addons"}),
        (rf"{_OF_RECORDING}{_RESULT}/Payloads/{_PAYLOAD}/Data\.json", {"GET": "addons"}),
        (rf"/_cdn/{_AC}/{_RE}\.(?P<extension>wav|mp3)", {"GET": "cdn"}),
        (rf"/_cdn/{_PAYLOAD}", {"GET": "cdn"}),
        (r"/_simulator/(?P<control>calls|recordings)", {"GET": "control", "POST": "control"}),
    )
)


def match(method: str, path: str) -> tuple[str, dict[str, str]]:
    """Return the endpoint and the parts of the path; the endpoint is `unknown` or `method` (not allowed).

    HEAD means what GET means.
    """
    for pattern, methods in _ROUTES:
        if found := pattern.fullmatch(path):
            parts = {name: value for name, value in found.groupdict().items() if value}
            if "account" in parts:
                parts["account_sid"] = parts.pop("account")
            return methods.get("GET" if method == "HEAD" else method, "method"), parts
    return "unknown", {}
