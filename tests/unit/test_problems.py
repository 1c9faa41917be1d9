"""Error answers as RFC 9457 problems."""

import json

import pytest

from app.problems import problem


def test_problem_names_field_and_mend() -> None:
    """A problem says the status, its phrase, the field and what would be accepted."""
    answer = problem(400, "must be RE followed by 32 hexadecimal digits", field="RecordingSid")
    assert answer.status_code == 400
    assert answer.content_type == "application/problem+json"
    assert json.loads(answer.get_data()) == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "must be RE followed by 32 hexadecimal digits",
        "field": "RecordingSid",
    }


def test_problem_without_field_has_none() -> None:
    """A problem that is not about one field doesn't have the member."""
    assert "field" not in json.loads(problem(413, "too large").get_data())


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [(401, "WWW-Authenticate", 'Basic realm="x"'), (405, "Allow", "GET, POST"), (503, "Retry-After", "10")],
)
def test_problem_carries_the_headers_of_its_status(status: int, name: str, value: str) -> None:
    """What a status needs beside its body goes into the headers."""
    assert problem(status, "x", headers={name: value}).headers[name] == value
