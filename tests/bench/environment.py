"""The environment of what the benchmarks compare with, made from its pins at the first use."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.local.servers import ROOT

PINS: Final = ROOT / "tests" / "bench" / "requirements.txt"
DIRECTORY: Final = ROOT / ".local" / "bench"


def aws_command() -> str:
    """Return the AWS command line."""
    wanted = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()
    stamp = DIRECTORY / "made-from"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(DIRECTORY)], check=True)
        pip = [str(DIRECTORY / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, "--require-hashes", f"--requirement={PINS}"], check=True)
        stamp.write_text(wanted)
    return str(Path(DIRECTORY) / "bin" / "aws")
