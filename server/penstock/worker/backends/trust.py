"""What is done before a file is loaded that somebody else has made: pickles are refused, archives are measured."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path, PurePosixPath

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions

__all__ = ["check_archive", "is_trusted", "refuse_code", "refuse_pickle", "sha256_of"]

# Weights hardly compress, and text to a tenth or so: an archive that grows more than this was made to.
GROWTH_MAX = 20
# Small archives may hold long runs of zeros, which compress to nothing; this much a worker can stand.
UNPACKED_BYTES_MIN = 1 << 30
# One entry per tensor: the largest models have a few thousand.
ENTRIES_MAX = 100_000


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_trusted(path: Path, options: LoadOptions) -> bool:
    """Tell whether the settings name the digest of the file, which is read only if they name any."""
    return bool(options.trusted_digests) and sha256_of(path) in options.trusted_digests


def refuse_pickle(path: Path, options: LoadOptions, instead: str = "") -> None:
    """ModelLoadError unless `options.trusted_digests` has the digest of the file, which is or holds a pickle.

    `instead` says how to come by a file that runs no code: a sentence.
    """
    refuse_code(path, options, "is a pickle, and to load a pickle is to run whatever its author put into it", instead)


def refuse_code(path: Path, options: LoadOptions, reason: str, instead: str = "") -> None:
    """ModelLoadError unless `options.trusted_digests` has the digest of the file, which runs code for this reason."""
    digest = sha256_of(path)
    if digest in options.trusted_digests:
        return
    raise ModelLoadError(
        f"{path} {reason}. {instead + ' ' if instead else ''}If you trust the file, name its digest in the model's "
        f'settings: trusted_digests = ["{digest}"]'
    )


def check_archive(path: Path) -> tuple[str, ...]:
    """Return the names of a zip archive's entries, none of which has been unpacked.

    ModelLoadError when it is cut off or damaged, when it would unpack to more than 20 times its size (and more than
    1 GiB), and when an entry's name occurs twice, leads out of the folder or is a link.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ModelLoadError(
            f"{path} is no complete zip archive ({error}): it may have been cut off on its way, copy it again"
        ) from error
    if len(entries) > ENTRIES_MAX:
        raise ModelLoadError(f"{path} has {len(entries)} entries: at most {ENTRIES_MAX} are unpacked")
    seen: set[str] = set()
    for entry in entries:
        # orig_filename is what the archive says; filename ends at the first NUL.
        name = entry.orig_filename
        if _leads_out(name) or stat.S_ISLNK(entry.external_attr >> 16):
            raise ModelLoadError(
                f"{path} has an entry {name!r} that leads out of the folder it is unpacked into: do not use this file"
            )
        if name in seen:
            raise ModelLoadError(f"{path} has two entries {name!r}: which of them counts is unclear; save it anew")
        seen.add(name)
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if unpacked > max(UNPACKED_BYTES_MIN, GROWTH_MAX * size):
        raise ModelLoadError(
            f"{path} has {size} bytes and would unpack to {unpacked}: more than {GROWTH_MAX} times as much is what zip "
            "bombs do. If it is a model, save it without compression"
        )
    return tuple(entry.orig_filename for entry in entries)


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name or name[1:2] == ":"
