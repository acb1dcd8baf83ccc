"""Where the contents of versions are kept."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from penstock.registry.folder import ContentFolder, Staged
from penstock.registry.local import FolderArtefacts, refusals
from penstock.registry.manifest import Member
from penstock.registry.records import ManifestEntry

__all__ = ["ArtefactStore", "open_artefacts"]

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
