"""A call costs what docs/adr/0030 says it may: `python -m bench sdk`, briefly."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_call_costs_no_more_than_it_may() -> None:
    command = [sys.executable, "-m", "bench", "sdk", "--rounds", "5", "--calls", "320", "--at-once", "16"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU of a call beside http.client: x0." in done.stdout
