"""What the type checker says about the order of the steps: only a verified receipt allows a deletion."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SNIPPET = """
from typing import Any

from app.receipt import Receipt
from workers.archive import StoredObject
from workers.deletion import Deletion
from workers.transcriptions import KeptTexts
from workers.verification import FiledReceipt, VerifiedObject, VerifiedReceipt


def wrong(
    deletion: Deletion,
    receipt: Receipt,
    filed: FiledReceipt,
    stored: StoredObject,
    verified_object: VerifiedObject,
    maybe: VerifiedReceipt | None,
    document: dict[str, Any],
) -> None:
    deletion.delete_source(receipt, KeptTexts())  # refused: Receipt
    deletion.delete_source(filed, KeptTexts())  # refused: FiledReceipt
    deletion.delete_source(stored, KeptTexts())  # refused: StoredObject
    deletion.delete_source(verified_object, KeptTexts())  # refused: VerifiedObject
    deletion.delete_source(maybe, KeptTexts())  # refused: VerifiedReceipt | None
    deletion.delete_source(document, KeptTexts())  # refused: dict
    deletion.delete_source(None, KeptTexts())  # refused: None
    deletion.delete_source("RE0123456789abcdef0123456789abcdef", KeptTexts())  # refused: str


def right(deletion: Deletion, verified: VerifiedReceipt) -> None:
    deletion.delete_source(verified, KeptTexts())
"""


def test_only_a_verified_receipt_is_accepted(tmp_path: Path) -> None:
    """The type checker refuses a `delete_source` call with anything else, and nothing more than that."""
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", str(snippet)]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    refused = [number for number, line in enumerate(SNIPPET.splitlines(), 1) if "# refused" in line]
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert [int(line.split(":")[1]) for line in errors] == refused, checked.stdout + checked.stderr
    assert all('Argument 1 to "delete_source"' in line and line.endswith("[arg-type]") for line in errors)
