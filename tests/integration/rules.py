"""Which alerts fire: the rules as shipped, evaluated by Prometheus's own promtool over what real processes showed.

What is scraped is real: once before something happens, once when it has happened, and once more later. Only the time
is made up: the first look is held for hours, and then each step of time brings what there was between the other two.
"""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "deploy" / "monitoring" / "alerts.yaml"
PROMTOOL: Final = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")

_HELD_STEPS: Final = 60  # of the first look
_SERIES: Final = "group by (alertname) (ALERTS{alertstate='firing'})"

Key = tuple[str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Target:
    """An endpoint that Prometheus scrapes."""

    job: str
    port: int

    def scrape(self) -> dict[Key, float]:
        """Return all samples, and whether it answered at all."""
        labels = {"job": self.job, "instance": f"127.0.0.1:{self.port}"}
        text = self._text()
        samples = {_key("up", labels): 0.0 if text is None else 1.0}
        for family in text_string_to_metric_families(text or ""):  # type: ignore[no-untyped-call]
            for sample in family.samples:
                samples[_key(sample.name, {**sample.labels, **labels})] = float(sample.value)
        return samples

    def _text(self) -> str | None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()


def look(targets: Iterable[Target]) -> dict[Key, float]:
    """Scrape every target."""
    return {key: value for target in targets for key, value in target.scrape().items()}


@dataclass(frozen=True)
class Story:
    """Three looks: before, when something has happened, and later.

    `step_min` is how many minutes a step of time takes: under 5, after which Prometheus forgets a sample.
    """

    before: Mapping[Key, float]
    happened: Mapping[Key, float]
    later: Mapping[Key, float]
    step_min: int = 1

    def firing(self, directory: Path, *after_min: int) -> list[set[str]]:
        """Return the names of the alerts that fire so many minutes after it happened, for each of these times."""
        steps, used = max(after_min) // self.step_min + 2, set(re.findall(r"[a-z_]+", RULES.read_text()))
        keys = {key for key in (*self.before, *self.happened, *self.later) if key[0] in used}
        series = [{"series": _name(key), "values": self._values(key, steps)} for key in sorted(keys, key=_name)]
        return _firing(series, self.step_min, [_HELD_STEPS * self.step_min + each for each in after_min], directory)

    def _values(self, key: Key, steps: int) -> str:
        return f"{self._held(key)} {self._told(key, steps)}"

    def _held(self, key: Key) -> str:
        value, count = self.before.get(key), _HELD_STEPS - 1
        if value is None:
            return f"_x{count}"
        if _is_moment(key):  # whatever is done every now and then goes on being done
            return f"0+{60 * self.step_min}x{count}"
        return f"{_number(value)}x{count}"

    def _told(self, key: Key, steps: int) -> str:
        first, last = self.happened.get(key), self.later.get(key)
        if last is None:
            return f"stale _x{steps}"
        begin = _HELD_STEPS * self.step_min * 60
        if _is_moment(key):
            before = self.before.get(key)
            if first is not None and last > first:
                return f"{begin}+{self.step_min * 60}x{steps}"
            # It stands still from now on; if it had never moved at all, from the beginning.
            return f"{begin if before is None or last > before else begin - 60 * self.step_min}x{steps}"
        if key[0].endswith("_age_seconds"):
            return f"{_number(last)}+{60 * self.step_min if last else 0}x{steps}"
        if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
            first = first or 0.0
            return f"{_number(first)}+{_number(max(0.0, last - first))}x{steps}"
        return f"{_number(last)}x{steps}"


def _firing(series: list[dict[str, str]], step_min: int, at_min: list[int], directory: Path) -> list[set[str]]:
    assert PROMTOOL is not None
    nothing = [{"labels": "{alertname='nothing'}", "value": 1}]  # so that it says what there is
    test = {
        "interval": f"{step_min}m",
        "input_series": series,
        "promql_expr_test": [
            {"expr": _SERIES, "eval_time": f"{each}m", "exp_samples": nothing} for each in sorted(at_min)
        ],
    }
    file = directory / f"rules-{time.monotonic_ns()}.json"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": f"{step_min}m", "tests": [test]}))
    ran = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True, check=False)
    got = re.findall(r"(?m)^\s+got:(.*)$", ran.stdout + ran.stderr)
    assert len(got) == len(at_min), ran.stdout + ran.stderr
    return [set(re.findall(r'alertname="(\w+)"', line)) for line in got]


def _key(name: str, labels: Mapping[str, str]) -> Key:
    return name, frozenset(labels.items())


def _name(key: Key) -> str:
    name, labels = key
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in sorted(labels))}}}"


def _is_moment(key: Key) -> bool:
    return key[0].endswith("_timestamp_seconds")


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
