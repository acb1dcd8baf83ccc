"""Contents of versions in a folder of this machine, and what the operating system may have against it."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

from penstock.core.errors import RegistryUnavailableError
from penstock.registry.folder import ContentFolder, Staged, stage
from penstock.registry.manifest import Member
from penstock.registry.records import ManifestEntry

__all__ = ["FolderArtefacts", "refusals", "staged_in"]


class FolderArtefacts:
    """Contents in a folder of this machine, or one that is mounted on it."""

    def __init__(self, folder: ContentFolder) -> None:
        self._folder = folder

    def stage(self, members: Sequence[Member]) -> AbstractAsyncContextManager[Staged]:
        """Copy files to a place of their own, which is given up in the end."""
        return staged_in(self._folder, members)

    async def keep(self, staged: Staged) -> None:
        """Make staged content the content of its digest."""
        with refusals(self._folder.root):
            await asyncio.to_thread(self._folder.adopt, staged)

    async def fetch(self, digest: str, manifest: Sequence[ManifestEntry]) -> Path:
        """Return the folder with the files, each compared with the manifest; DamagedError."""
        with refusals(self._folder.root):
            return await asyncio.to_thread(self._folder.verify, digest, manifest)

    async def digests(self) -> list[str]:
        """Return the digests of all contents."""
        with refusals(self._folder.root):
            return await asyncio.to_thread(self._folder.digests)

    async def discard(self, digest: str) -> None:
        """Remove content."""
        with refusals(self._folder.root):
            await asyncio.to_thread(self._folder.discard, digest)

    async def clean(self) -> None:
        """Remove what killed processes left on the way."""
        with refusals(self._folder.root):
            await asyncio.to_thread(self._folder.clear_staging)


@asynccontextmanager
async def staged_in(folder: ContentFolder, members: Sequence[Member]) -> AsyncIterator[Staged]:
    """Copy files into a staging folder, for the time of the block."""
    with refusals(folder.root), folder.staging() as place:
        copying = asyncio.ensure_future(asyncio.to_thread(stage, place, members))
        try:
            yield await asyncio.shield(copying)
        finally:
            # A thread cannot be cancelled: the folder stays until it has ended.
            await asyncio.wait([copying])
            await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)


@contextmanager
def refusals(root: Path) -> Iterator[None]:
    """Say in a sentence what the operating system has against it."""
    try:
        yield
    except OSError as error:
        where = f"the artefact folder {root}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = f"{where} has no room left ({error.strerror}): make some, or move it with artefacts"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"{where} cannot be written ({error.strerror}): it must belong to the user that runs Penstock"
        elif error.errno == errno.ENOENT:
            reason = f"{where} has lost {error.filename}: was a file deleted? Restore a backup, or register it again"
        else:
            reason = f"{where} failed: {error}"
        raise RegistryUnavailableError(reason) from error
