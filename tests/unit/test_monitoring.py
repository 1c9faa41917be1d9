"""The files of deploy/monitoring: each alert has a test and a section of the runbook, each query a metric of ours."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = (ROOT / "deploy/monitoring/alerts.yaml").read_text()
DASHBOARD = json.loads((ROOT / "deploy/monitoring/dashboard.json").read_text())
ALERTS = re.findall(r"- alert: (\w+)", RULES)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's sections, as its readers' programs make them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_alert_is_caused_in_a_test() -> None:
    """A rule that nobody has seen firing is none; and no test waits for one that is gone."""
    caused = set(re.findall(r'"(Archiver\w+)"', (ROOT / "tests/integration/test_alerts.py").read_text()))
    assert caused == set(ALERTS)
    assert len(ALERTS) == len(set(ALERTS))


def test_every_alert_says_what_to_do() -> None:
    """Each names a section of the runbook that is there, how bad it is, and what happened in words."""
    rules = RULES.split("- alert: ")[1:]
    for rule in rules:
        page, _, anchor = re.findall(r"runbook: (\S+)", rule)[0].partition("#")
        assert anchor in anchors(ROOT / page), rule
        assert re.search(r"labels: { severity: (critical|warning) }", rule), rule
        assert re.search(r'summary: ".{20,}"', rule), rule


def metrics() -> set[str]:
    """Return the metrics that the code defines, without the ends that Prometheus gives them."""
    sources = "".join(path.read_text() for folder in ("app", "workers") for path in (ROOT / folder).rglob("*.py"))
    return set(re.findall(r'"(archiver_\w+)"', sources)) - {"archiver_version"}  # a field of documents


@pytest.mark.parametrize("text", [RULES, json.dumps(DASHBOARD)], ids=["rules", "dashboard"])
def test_only_metrics_of_ours_are_asked_for(text: str) -> None:
    """Each name is one that a process shows."""
    asked = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in re.findall(r"archiver_\w+", text)}
    assert asked - metrics() == set()


def test_the_dashboard_is_for_any_grafana() -> None:
    """Panels have ids of their own, overlap nowhere, and take the data source that is chosen."""
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_the_page_lists_every_metric() -> None:
    """What a process shows is explained, and what is explained is shown."""
    page = (ROOT / "deploy/monitoring/README.md").read_text()
    assert {name.removesuffix("_total") for name in re.findall(r"archiver_\w+", page)} == metrics()
