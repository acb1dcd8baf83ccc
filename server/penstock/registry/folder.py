"""A folder of contents that survives crashes: what is in it is whole, and named by its digest.

`contents/ab/abcd.../` holds the files of one artefact and nothing else. `staging/` holds what is being copied; each
of its folders has a lock file that its maker holds, so what a killed process left is known at once.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from penstock.registry.manifest import ArtefactError, Member, copy_and_hash, digest_of, hash_file
from penstock.registry.records import ManifestEntry

__all__ = ["ContentFolder", "DamagedError", "Staged", "seal", "stage", "sync_tree"]

_DIGEST = re.compile(r"[0-9a-f]{64}")


class DamagedError(Exception):
    """A stored file is not what was registered; the text names it."""


@dataclass(frozen=True, slots=True)
class Staged:
    """Content that is complete and synced, and not in its place yet."""

    folder: Path
    manifest: tuple[ManifestEntry, ...]
    digest: str

    @property
    def bytes(self) -> int:
        """All files together."""
        return sum(entry.bytes for entry in self.manifest)


class ContentFolder:
    """Contents below a folder. Methods wait for the disk: call them beside the loop. OSError when it refuses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._contents = root / "contents"
        self._staging = root / "staging"

    def make(self) -> None:
        """Make the folders."""
        for folder in (self.root, self._contents, self._staging):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # a model may be a secret, too
        sync(self.root)

    def place(self, digest: str) -> Path:
        """Return where the content has its place, whether it is there or not."""
        return self._contents / digest[:2] / digest

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a new folder that is removed in the end, unless adopt() has taken it."""
        with ExitStack() as held:
            lock = self._take_lock(held)
            folder = lock.with_suffix("")
            try:
                folder.mkdir()
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)

    def _take_lock(self, held: ExitStack) -> Path:
        """Make the lock of a folder, before the folder: one without a held lock belongs to nobody."""
        while True:
            lock = self._staging / f"{secrets.token_hex(16)}.lock"
            with ExitStack() as opened:
                file = opened.enter_context(lock.open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
                # Somebody who cleans up may have found it before it was locked, and have removed it.
                if lock.exists():
                    held.push(opened.pop_all())
                    return lock

    def adopt(self, staged: Staged) -> Path:
        """Put content into its place in one step. When it is there already, that is as good."""
        place = self.place(staged.digest)
        place.parent.mkdir(exist_ok=True)
        try:
            staged.folder.rename(place)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        sync(place.parent)
        sync(self._contents)
        return place

    def verify(self, digest: str, manifest: Sequence[ManifestEntry]) -> Path:
        """Compare every file with the manifest and return the folder; DamagedError. FileNotFoundError: not there."""
        place = self.place(digest)
        if not place.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(place))
        for entry in manifest:
            try:
                found = hash_file(place / entry.path)
            except FileNotFoundError:
                raise DamagedError(f"its file {entry.path!r} is gone") from None
            if found != (entry.bytes, entry.sha256):
                raise DamagedError(f"its file {entry.path!r} is not what was registered")
        return place

    def discard(self, digest: str) -> None:
        """Remove content: out of its place in one step, then file by file."""
        with self.staging() as folder:
            try:
                self.place(digest).rename(folder / digest)
            except FileNotFoundError:
                return
            sync(self.place(digest).parent)

    def digests(self) -> list[str]:
        """Return the digests of all contents."""
        return [
            content.name
            for shelf in self._contents.iterdir()
            if shelf.is_dir()
            for content in shelf.iterdir()
            if _DIGEST.fullmatch(content.name)
        ]

    def clear_staging(self) -> None:
        """Remove what killed processes left behind."""
        for lock in self._staging.glob("*.lock"):
            with lock.open("w") as held:
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                lock.unlink(missing_ok=True)


def stage(folder: Path, members: Sequence[Member]) -> Staged:
    """Copy files into an empty folder and sync them. The manifest describes the copies."""
    entries = []
    for member in members:
        target = folder / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open_source(member) as source, target.open("xb") as copy:
            size, sha256 = copy_and_hash(source, copy)
            copy.flush()
            seal(copy.fileno())
        entries.append(ManifestEntry(member.path, size, sha256))
    sync_tree(folder)
    return Staged(folder, tuple(entries), digest_of(entries))


def _open_source(member: Member) -> BinaryIO:
    try:
        return member.source.open("rb")
    except OSError as error:
        raise ArtefactError(f"{member.path!r} cannot be read: {error.strerror}") from error


def seal(descriptor: int) -> None:
    """Make a file read-only and sync it."""
    os.fchmod(descriptor, 0o444)
    os.fsync(descriptor)


def sync_tree(folder: Path) -> None:
    """Sync the entries of a folder and of all below it."""
    for parent, _, _ in os.walk(folder, topdown=False):
        sync(Path(parent))


def sync(folder: Path) -> None:
    """Sync the entries of a folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
