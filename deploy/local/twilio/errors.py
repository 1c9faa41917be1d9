"""Answer with Twilio's errors, in the three shapes in which they come."""

from __future__ import annotations

import json
from typing import Literal
from xml.sax.saxutils import escape

Shape = Literal["json", "xml", "problem"]

MESSAGES = {
    16109: "The recording is encrypted and can only be downloaded as WAV",
    16113: "Two channels were requested of a recording that has only one",
    20001: "A parameter has a value that is not allowed here",
    20003: "Authenticate",
    20004: "Method not allowed",
    20005: "Account not active",
    20009: "Cannot delete this resource before it is complete",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "An internal server error has occurred",
    20503: "Service unavailable",
    21220: "The call or recording is not in a state in which this can be done",
}


class ApiError(Exception):
    """Say no as Twilio does: an HTTP status and Twilio's own code (five digits)."""

    def __init__(self, status: int, code: int, message: str = "") -> None:
        self.status, self.code = status, code
        self.message = message or MESSAGES.get(code, "Error")
        super().__init__(f"{status} ({code}): {self.message}")

    def render(self, shape: Shape) -> tuple[str, bytes]:
        """Return the content type and the body in one of Twilio's three shapes."""
        more_info = f"https://www.twilio.com/docs/errors/{self.code}"
        if shape == "xml":
            return "application/xml", (
                "<?xml version='1.0' encoding='UTF-8'?>\n<TwilioResponse><RestException>"
                f"<Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
                f"<MoreInfo>{more_info}</MoreInfo><Status>{self.status}</Status>"
                "</RestException></TwilioResponse>"
            ).encode()
        if shape == "problem":
            problem = {"type": more_info, "title": self.message, "status": self.status, "code": self.code}
            return "application/problem+json", json.dumps(problem).encode()
        error = {"code": self.code, "message": self.message, "more_info": more_info, "status": self.status}
        return "application/json", json.dumps(error).encode()


def shape_for(path: str) -> Shape:
    """Choose the shape of an error: XML is the default where the path has no `.json` (Twilio's 2010 API)."""
    return "json" if path.endswith(".json") else "xml"
