"""What a batch notes as kept is on the disk."""

import errno
import os
from pathlib import Path

import pytest

from penstock.cli.batch import output
from penstock.cli.batch.answers import Piece
from penstock.cli.batch.output import FileOutput
from penstock.core.errors import PenstockError


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_rows_that_could_not_be_synced_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """A disk says once that it has lost what it was given."""
    monkeypatch.setattr(output, "_SYNC_S", 0.0)
    batch = FileOutput(tmp_path / "a.csv", None, "csv")
    batch.begin({}, b"y\n")
    sync, failures = os.fsync, [OSError(error, os.strerror(error))]

    def fail_once(file: int) -> None:
        if failures:
            raise failures.pop()
        sync(file)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(PenstockError, match="; 0 rows are kept"):
        batch.write(Piece(b"1\n", b"", 1, 0), 2)
    batch.close()
    assert FileOutput(tmp_path / "a.csv", None, "csv").mark.rows == 0
