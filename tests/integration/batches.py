"""`penstock batch` as the tests run it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["BATCH_SECONDS", "FORMATS", "Batch", "batches_in"]

BATCH_SECONDS = 300
Batch = Callable[..., subprocess.CompletedProcess[bytes]]
# With what files of them end in.
FORMATS = {"csv": "csv", "ndjson": "ndjson", "arrow": "arrow", "arrow-stream": "arrows", "parquet": "parquet"}


def batches_in(folder: Path, url: str) -> Batch:
    """Return what runs `penstock batch` in a folder: batch("loan", "rows.csv", "-o", "answers.csv", status=1)."""

    def run(*arguments: str, status: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        result = subprocess.run(
            [sys.executable, "-m", "penstock", "batch", *arguments],
            input=stdin,
            capture_output=True,
            timeout=BATCH_SECONDS,
            check=False,
            cwd=folder,
            env={**os.environ, "PENSTOCK_URL": url},
        )
        assert result.returncode == status, result
        assert b"Traceback" not in result.stderr
        return result

    return run
