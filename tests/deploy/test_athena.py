"""The tables and queries of deploy/athena, over the documents of an archive that the product has made."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.local.servers import ROOT
from tests.deploy.conftest import Tool
from tests.deploy.split import Split

pytestmark = pytest.mark.timeout(300)  # the first test waits for a whole run of the product
_MONTH = re.compile(r"^receipts/.*/year=(\d{4})/month=(\d{2})/")
ATHENA = ROOT / "deploy" / "athena"
Rows = list[dict[str, Any]]


def queries(year: int, month: int) -> list[str]:
    """Return the queries for a month."""
    text = (ATHENA / "queries.sql").read_text()
    text = text.replace("year = 2026", f"year = {year}").replace("month = 11", f"month = {month}")
    return list(re.findall(r"^SELECT .*?;", text, re.DOTALL | re.MULTILINE))


@pytest.fixture(scope="module")
def documents(split: Split) -> dict[str, bytes]:
    """Return the archive's documents by their keys."""
    s3, bucket = split.stack.s3.client(), split.stack.bucket
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", ()) if item["Key"].endswith(".json")]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


class Auditor:
    """Asks the five questions over a copy of the documents in files."""

    def __init__(self, tool: Tool, documents: dict[str, bytes], root: Path) -> None:
        self._tool = tool
        self._root = root
        ((year, month),) = {found.groups() for key in documents if (found := _MONTH.search(key))}
        self._queries = queries(int(year), int(month))
        for key, body in documents.items():
            self.put(key, body)

    def put(self, key: str, body: bytes) -> None:
        path = self._root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def remove(self, key: str) -> None:
        (self._root / key).unlink()

    def keys(self, collection: str) -> list[str]:
        paths = sorted((self._root / collection).rglob("RE*.json"))
        return [str(path.relative_to(self._root)) for path in paths if ".requested." not in path.name]

    def document(self, key: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self._root / key).read_bytes())
        return read

    def ask(self) -> list[Rows]:
        """Return the rows of each query."""
        tables = (ATHENA / "tables.sql").read_text().replace("PREFIX", "")
        given = json.dumps({"tables": tables, "queries": self._queries, "root": str(self._root)})
        answered = self._tool("python", "tests/deploy/athena_in_duckdb.py", given=given)
        assert answered.returncode == 0, answered.stderr
        answers: list[Rows] = json.loads(answered.stdout)
        return answers


@pytest.fixture
def auditor(tool: Tool, documents: dict[str, bytes], tmp_path: Path) -> Auditor:
    return Auditor(tool, documents, tmp_path)


def test_the_five_questions_are_answered(auditor: Auditor, split: Split) -> None:
    """Over a healthy archive: each recording with its digest and deletion, each day's sums, nothing wrong, and when."""
    inventory, days, wrong, unlocked, times = auditor.ask()
    served = {sid: each for sid, each in split.stack.simulator.recordings.items() if each.status != "absent"}
    assert {row["recording_sid"] for row in inventory} == set(served)
    assert all(row["deleted_at"] and re.fullmatch("[0-9a-f]{64}", row["sha256"]) for row in inventory)
    (day,) = days
    assert (day["archived"], day["deleted"], day["absent"]) == (len(served), len(served), 1)
    assert day["bytes"] == sum(row["bytes"] for row in inventory)
    assert wrong == []
    assert len(unlocked) == len(served)  # the stand-in has no Object Lock on uploads in parts, so there is none
    assert sum(row["recordings"] for row in times) == len(served)
    assert all(row["most_within_s"] <= row["all_within_s"] for row in times)


def test_a_deletion_without_a_receipt_is_found(auditor: Auditor) -> None:
    """A deletion whose receipt is gone is named."""
    receipt = auditor.keys("receipts")[0]
    auditor.remove(receipt)
    _, _, wrong, _, _ = auditor.ask()
    assert [(row["recording_sid"], row["finding"]) for row in wrong] == [(Path(receipt).stem, "no receipt")]


def test_a_proof_that_came_later_and_a_deletion_by_others_are_found(auditor: Auditor) -> None:
    """A receipt verified after the deletion and a source that somebody else deleted are named as what they are."""
    later, others = auditor.keys("deletions")[:2]
    auditor.put(later, json.dumps(auditor.document(later) | {"deleted_at": "2020-01-01T00:00:00.000Z"}).encode())
    answer = {"status": 404, "by_archiver": False}
    auditor.put(others, json.dumps(auditor.document(others) | {"answer": answer}).encode())
    _, _, wrong, _, _ = auditor.ask()
    findings = {row["recording_sid"]: row["finding"] for row in wrong}
    assert findings == {Path(later).stem: "the proof came later", Path(others).stem: "deleted by somebody else"}


def test_what_is_retained_as_asked_is_not_named(auditor: Auditor) -> None:
    """A recording in compliance mode for long enough, encrypted with one's own key, is left out of the fourth list."""
    receipt = auditor.keys("receipts")[0]
    document = auditor.document(receipt)
    document["storage"] |= {"sse": "aws:kms", "object_lock_mode": "COMPLIANCE", "retain_until": "2099-01-01T00:00:00Z"}
    auditor.put(receipt, json.dumps(document).encode())
    _, _, _, unlocked, _ = auditor.ask()
    assert {row["recording_sid"] for row in unlocked} == {Path(key).stem for key in auditor.keys("receipts")[1:]}


@pytest.mark.parametrize("table", ["receipts", "deletions", "absences"])
def test_partitions_are_projected_as_the_archive_is_laid_out(documents: dict[str, bytes], table: str) -> None:
    """Each table finds every document of its collection by account, year, month and day with two digits."""
    (statement,) = re.findall(rf"CREATE EXTERNAL TABLE {table} .*?;", (ATHENA / "tables.sql").read_text(), re.DOTALL)
    properties = dict(re.findall(r"'([\w.]+)' =\s*'([^']+)'", statement))
    template = properties["storage.location.template"].removeprefix("s3://BUCKET/PREFIX")
    pattern = re.escape(template).replace(r"\$\{account\}", "AC[0-9a-f]{32}").replace(r"\$\{year\}", "[0-9]{4}")
    for name in ("month", "day"):
        assert properties[f"projection.{name}.digits"] == "2"
        pattern = pattern.replace(rf"\$\{{{name}\}}", "[0-9]{2}")
    keys = [key for key in documents if key.startswith(f"{table}/")]
    assert keys
    assert all(re.match(pattern + r"RE[0-9a-f]{32}\.", key) for key in keys)
