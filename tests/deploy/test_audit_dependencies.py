"""What is said of the dependencies' vulnerabilities: never that there is none when nobody was asked."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from deploy.local.servers import ROOT

SCRIPT = ROOT / "deploy" / "audit-dependencies"
FINE = {"name": "flask", "version": "3.1.3", "vulns": []}
SKIPPED = {"name": "celery", "skip_reason": "Dependency not found on PyPI and could not be audited"}
BROKEN = {"name": "redis", "version": "6.0.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["6.0.1"]}]}


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "audit_dependencies", "__file__": str(SCRIPT), "__doc__": "Look."}
    exec(compile(SCRIPT.read_text(), SCRIPT, "exec"), namespace)  # noqa: S102 (our own script, which has no suffix)
    return namespace


@pytest.fixture(scope="module")
def judge(script: dict[str, Any]) -> Callable[..., tuple[list[str], bool]]:
    found: Callable[..., tuple[list[str], bool]] = script["judge"]
    return found


@pytest.mark.parametrize("option", ["--Must", "--must-not", "must", "requirements.txt"])
def test_a_misspelled_option_is_refused(script: dict[str, Any], option: str) -> None:
    """A CI step that means --must must not pass because of a typing error."""
    with pytest.raises(SystemExit) as ended:
        script["main"]([option])
    assert ended.value.code == 2


@pytest.mark.parametrize("must", [False, True])
@pytest.mark.parametrize("answer", ["", "{}", json.dumps({"dependencies": [FINE, SKIPPED]})])
def test_what_was_not_asked_is_not_audited(judge: Callable[..., Any], answer: str, must: bool) -> None:
    """Without an answer, or with one that left a package out, it says so, and with --must it fails."""
    (line,), good = judge("requirements.txt", answer, must=must)
    assert "NOT AUDITED" in line
    assert "none with" not in line
    assert good is not must


@pytest.mark.parametrize("others", [[], [FINE], [SKIPPED]])
def test_a_vulnerable_package_is_named(judge: Callable[..., Any], others: list[Any]) -> None:
    """A known vulnerability fails whatever else was found, and the version that mends it is named."""
    lines, good = judge("requirements.txt", json.dumps({"dependencies": [BROKEN, *others]}), must=False)
    assert lines == ["requirements.txt: redis 6.0.0: CVE-2026-1, mended in 6.0.1"]
    assert not good


def test_a_complete_audit_says_so(judge: Callable[..., Any]) -> None:
    """Only when every package was looked up is it said that none is vulnerable."""
    lines, good = judge("requirements.txt", json.dumps({"dependencies": [FINE]}), must=True)
    assert lines == ["requirements.txt: 1 packages, none with a known vulnerability"]
    assert good
