"""Artefacts that come as a tar archive: received into a file, measured, unpacked into a temporary folder.

An archive is somebody else's: nothing in it is followed, nothing leaves the folder, and it can be no larger unpacked
than it came.
"""

from __future__ import annotations

import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import gevent

from penstock.core.errors import RequestError

__all__ = ["FILES_MAX", "artefact_of", "place", "receive", "unpack"]

# As many as a large SavedModel or a package of code has, ten times over.
FILES_MAX = 10_000
_PIECE_BYTES = 64 * 1024
_PREFIX = "upload-"
_STALE_S = 86_400
_MEND = "pack plain files and folders with: tar -cf model.tar -C FOLDER ."


@contextmanager
def place(folder: Path | None) -> Iterator[Path]:
    """Make a folder of its own below `folder` for the time of the block; without one where the system has such."""
    if folder is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder, ignore_cleanup_errors=True) as here:
        yield Path(here)


@contextmanager
def receive(stream: IO[bytes], folder: Path | None) -> Iterator[tuple[Path, Path]]:
    """Write a request's body to a file; that file and an empty folder beside it, both gone when the block ends."""
    with place(folder) as here:
        archive, unpacked = here / "archive.tar", here / "artefact"
        unpacked.mkdir()
        with archive.open("wb") as file:
            while piece := stream.read(_PIECE_BYTES):
                file.write(piece)
                gevent.sleep(0)  # a fast client shall not keep the hub for itself
        yield archive, unpacked


def _sweep(folder: Path) -> None:
    """Remove what servers that were killed have left. Another server may be using the rest."""
    for left in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_S:
                shutil.rmtree(left, ignore_errors=True)


def artefact_of(folder: Path) -> Path:
    """Return what was packed: the one thing at the archive's top, else the folder it was unpacked to."""
    found = list(folder.iterdir())
    if not found:
        raise RequestError("invalid_input", f"the archive is empty; {_MEND}")
    return found[0] if len(found) == 1 else folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive into an empty folder.

    May take long; any thread may call it. RequestError: `malformed_body`, `invalid_input`, `body_too_large`.
    """
    try:
        with tarfile.open(archive, mode="r:") as tar:
            _unpack(tar, folder, archive.stat().st_size)
    except tarfile.FilterError as error:
        raise RequestError("invalid_input", f"the archive would write outside its folder: {_plain(error)}") from None
    except tarfile.TarError as error:
        raise RequestError("malformed_body", f"not a tar archive: {error}; {_MEND}") from None
    except (OSError, ValueError, EOFError, OverflowError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise RequestError("invalid_input", f"the archive cannot be unpacked: {reason}; {_MEND}") from None


def _unpack(tar: tarfile.TarFile, folder: Path, bytes_max: int) -> None:
    total = 0
    for files, member in enumerate(tar, 1):
        total += member.size
        if files > FILES_MAX:
            raise RequestError(
                "body_too_large",
                f"the archive holds more than {FILES_MAX} files; register the folder by its path on the server",
            )
        # Only a hole can be larger than what came: a sparse file of a terabyte fits into a kilobyte.
        if member.issparse() or total > bytes_max:
            raise RequestError(
                "body_too_large", f"{_named(member)} is larger than what was sent; pack it without holes"
            )
        if not (member.isreg() or member.isdir()):
            raise RequestError(
                "invalid_input", f"{_named(member)} is neither a file nor a folder; {_MEND} --dereference"
            )
        tar.extract(member, folder, set_attrs=False, filter="data")


def _named(member: tarfile.TarInfo) -> str:
    return f"{member.name[:200]!r} in the archive"


def _plain(error: tarfile.FilterError) -> str:
    # Its text names the folder on this server.
    return f"{error.tarinfo.name[:200]!r}"
