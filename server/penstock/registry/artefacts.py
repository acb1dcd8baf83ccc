"""Where the contents of versions are kept."""

from __future__ import annotations

import asyncio
import errno
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

from penstock.core.errors import RegistryUnavailableError
from penstock.registry.folder import ContentFolder, Staged, stage
from penstock.registry.manifest import Member
from penstock.registry.records import ManifestEntry

__all__ = ["ArtefactStore", "FolderArtefacts", "open_artefacts", "refusals", "staged_in"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FILE_URL = "file://"


class ArtefactStore(Protocol):
    """Contents by their digests. Whatever stands in it under a digest is whole. RegistryUnavailableError."""

    def stage(self, members: Sequence[Member]) -> AbstractAsyncContextManager[Staged]:
        """Copy files to a place of their own, which is given up in the end; ArtefactError when one cannot be read."""

    async def keep(self, staged: Staged) -> None:
        """Make staged content the content of its digest. It survives a crash from then on."""

    async def fetch(self, digest: str, manifest: Sequence[ManifestEntry]) -> Path:
        """Return a local folder with the files, each compared with the manifest; DamagedError."""

    async def digests(self) -> list[str]:
        """Return the digests under which there is anything, whole or not."""

    async def discard(self, digest: str) -> None:
        """Remove content."""

    async def clean(self) -> None:
        """Remove what killed processes left on the way."""


async def open_artefacts(where: str, cache: Path) -> ArtefactStore:
    """Open a folder, or a URL that fsspec knows, of which copies are kept in `cache`.

    Raises ConfigError for a URL that nothing here knows, RegistryUnavailableError when it cannot be used.
    """
    if _URL.match(where) and not where.startswith(_FILE_URL):
        # Most do without, and importing it takes a tenth of a second.
        from penstock.registry.remote import RemoteArtefacts

        return await RemoteArtefacts.open(where, cache)
    folder = ContentFolder(Path(where.removeprefix(_FILE_URL)).expanduser())
    with refusals(folder.root):
        await asyncio.to_thread(folder.make)
    return FolderArtefacts(folder)


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
