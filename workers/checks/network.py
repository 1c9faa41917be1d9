"""Say why a connection failed, and compare clocks."""

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from workers.checks.results import Result, amber, green, red, skipped

TIMEOUT_S: Final = 5.0
_LATE_S: Final = 30
_TOO_LATE_S: Final = 5 * 60  # S3 refuses requests that are 15 minutes off


@dataclass(frozen=True, slots=True)
class Fault:
    """Why there is no answer: `kind` is name, refused, timeout, certificate, tls, closed or other."""

    kind: str
    words: str


def fault_of(error: BaseException) -> Fault:
    """Find the cause among an error and those that led to it. No text of theirs is used: it may hold a URL."""
    causes = list(_causes(error))
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return Fault(
                    "certificate", f"its certificate is refused: {getattr(cause, 'verify_message', '') or 'unverified'}"
                )
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                continue  # a connection that was closed
            case ssl.SSLError():
                return Fault(
                    "tls",
                    f"what answers there does not speak TLS ({getattr(cause, 'reason', None) or 'handshake failed'})",
                )
            case socket.gaierror():
                return Fault("name", "its host name is not known")
            case ConnectionRefusedError():
                return Fault("refused", "nobody listens there")
    if any(isinstance(cause, TimeoutError) or "Timeout" in type(cause).__name__ for cause in causes):
        return Fault("timeout", f"no answer within {TIMEOUT_S:g} s")
    if any(isinstance(cause, OSError) for cause in causes):
        return Fault("closed", "the connection was closed without an answer")
    return Fault("other", type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def host_fault(host: str) -> Fault | None:
    """Look a host name up; None when it is known."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return Fault("name", "its host name is not known")
    return None


def judge_clock(name: str, date_header: str, now: datetime) -> Result:
    """Compare this machine's clock (`now`, aware UTC) with the Date of an answer."""
    try:
        theirs = parsedate_to_datetime(date_header)
    except ValueError:
        return skipped(name, "the answer has no Date to compare with")
    return judge_skew(name, (now - theirs.replace(tzinfo=theirs.tzinfo or UTC)).total_seconds())


def judge_skew(name: str, seconds: float) -> Result:
    """Judge by how many seconds this machine's clock is ahead."""
    found = f"this machine's clock is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"
    mend = "let NTP set this machine's clock; S3 refuses what is 15 minutes off"
    if abs(seconds) >= _TOO_LATE_S:
        return red(name, found, mend)
    if abs(seconds) >= _LATE_S:
        return amber(name, found, mend)
    return green(name, "the clocks agree")
