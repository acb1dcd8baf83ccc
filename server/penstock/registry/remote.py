"""The door to fsspec: contents at a URL, with copies in a local folder."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import TypeVar

from penstock.core.errors import ConfigError, RegistryUnavailableError, RequestError
from penstock.registry.folder import ContentFolder, DamagedError, Staged, seal, sync_tree
from penstock.registry.local import refusals, staged_in
from penstock.registry.manifest import Member, canonical, copy_and_hash
from penstock.registry.records import ManifestEntry

try:
    import fsspec
except ImportError as error:
    raise ConfigError(
        "artefacts names a URL, for which fsspec is not installed: run pip install 'penstock[s3]'"
    ) from error

__all__ = ["RemoteArtefacts", "download"]

_T = TypeVar("_T")

_MANIFEST = "manifest.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class RemoteArtefacts:
    """Contents at a URL: `contents/ab/abcd.../files/...` and, written last, `manifest.json` beside the files."""

    def __init__(self, url: str, cache: ContentFolder) -> None:
        self._url = re.sub(r"//[^/@]*@", "//", url)
        self._cache = cache
        with self._translated():
            try:
                # What others write must be seen, so no listing is remembered.
                self._remote, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
            except (ImportError, ValueError) as error:
                raise ConfigError(f"artefacts = {self._url}: {error}") from error
        self._contents = f"{root.rstrip('/')}/contents"

    @classmethod
    async def open(cls, url: str, cache: Path) -> RemoteArtefacts:
        """Open a URL that fsspec knows; ConfigError for another, RegistryUnavailableError when it cannot be used."""
        folder = ContentFolder(cache)
        with refusals(cache):
            await asyncio.to_thread(folder.make)
        store = await asyncio.to_thread(cls, url, folder)
        await store._beside(lambda: store._list(store._contents))
        return store

    def stage(self, members: Sequence[Member]) -> AbstractAsyncContextManager[Staged]:
        """Copy files to a place of their own, which is given up in the end."""
        return staged_in(self._cache, members)

    async def keep(self, staged: Staged) -> None:
        """Upload staged content, its manifest last; what was staged is the copy of it."""
        await self._beside(lambda: self._upload(staged))
        with refusals(self._cache.root):
            await asyncio.to_thread(self._cache.adopt, staged)

    async def fetch(self, digest: str, manifest: Sequence[ManifestEntry]) -> Path:
        """Return the copy, made anew if it is missing or damaged, every file compared with the manifest."""
        with refusals(self._cache.root):
            try:
                return await asyncio.to_thread(self._cache.verify, digest, manifest)
            except FileNotFoundError:
                pass
            except DamagedError:
                await asyncio.to_thread(self._cache.discard, digest)
        return await self._beside(lambda: self._download(digest, manifest))

    async def digests(self) -> list[str]:
        """Return the digests under which there is anything, whole or not, there or here."""
        there = await self._beside(lambda: [name for shelf in self._list(self._contents) for name in self._list(shelf)])
        with refusals(self._cache.root):
            here = await asyncio.to_thread(self._cache.digests)
        names = {name.rstrip("/").rpartition("/")[2] for name in there}
        return sorted({name for name in names if _DIGEST.fullmatch(name)} | set(here))

    async def discard(self, digest: str) -> None:
        """Remove content, its manifest first, and the copy."""
        await self._beside(lambda: self._remove(digest))
        with refusals(self._cache.root):
            await asyncio.to_thread(self._cache.discard, digest)

    async def clean(self) -> None:
        """Remove what killed processes left on the way."""
        with refusals(self._cache.root):
            await asyncio.to_thread(self._cache.clear_staging)

    # ---- beside the loop ---------------------------------------------------------------------------------------------

    def _place(self, digest: str) -> str:
        return f"{self._contents}/{digest[:2]}/{digest}"

    def _upload(self, staged: Staged) -> None:
        place = self._place(staged.digest)
        if self._remote.exists(f"{place}/{_MANIFEST}"):
            return
        for entry in staged.manifest:
            target = f"{place}/files/{entry.path}"
            if self._remote.root_marker:
                # An object store has no folders and no root, and would make a bucket of a mistyped name.
                self._remote.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._remote.put_file(str(staged.folder / entry.path), target)
        self._remote.pipe_file(f"{place}/{_MANIFEST}", canonical(staged.manifest))

    def _download(self, digest: str, manifest: Sequence[ManifestEntry]) -> Path:
        with self._cache.staging() as folder:
            for entry in manifest:
                self._download_file(digest, entry, folder / entry.path)
            sync_tree(folder)
            return self._cache.adopt(Staged(folder, tuple(manifest), digest))

    def _download_file(self, digest: str, entry: ManifestEntry, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                self._remote.open(f"{self._place(digest)}/files/{entry.path}", "rb") as source,
                target.open("xb") as copy,
            ):
                found = copy_and_hash(source, copy)
                copy.flush()
                seal(copy.fileno())
        except FileNotFoundError:
            raise DamagedError(f"its file {entry.path!r} is gone from {self._url}") from None
        if found != (entry.bytes, entry.sha256):
            raise DamagedError(f"its file {entry.path!r} at {self._url} is not what was registered")

    def _remove(self, digest: str) -> None:
        place = self._place(digest)
        if self._remote.exists(f"{place}/{_MANIFEST}"):
            self._remote.rm_file(f"{place}/{_MANIFEST}")
        if self._remote.exists(place):
            self._remote.rm(place, recursive=True)

    def _list(self, folder: str) -> list[str]:
        try:
            return list(self._remote.ls(folder, detail=False))
        except FileNotFoundError:
            return []

    async def _beside(self, work: Callable[[], _T]) -> _T:
        with self._translated():
            return await asyncio.to_thread(work)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (ConfigError, DamagedError, RegistryUnavailableError):
            raise
        except Exception as error:
            # Each file system behind fsspec has exceptions of its own.
            raise RegistryUnavailableError(
                f"the artefacts at {self._url} cannot be used: {error}. Is the URL right, and may this user read and "
                "write there?"
            ) from error


def download(url: str, folder: Path) -> Path:
    """Copy the file at a URL, or all that lies below it, into a folder; where the copy is.

    Takes as long as the other side does: for a thread of its own. RequestError (`invalid_input`) when that fails.
    """
    shown = re.sub(r"//[^/@]*@", "//", url)
    try:
        remote, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        root = root.rstrip("/")
        names = [root] if remote.isfile(root) else remote.find(root)
        if not names:
            raise RequestError("invalid_input", f"url: there is nothing at {shown}; check it")
        target = folder / (root.rpartition("/")[2] or "artefact")
        for name in names:
            inside = PurePosixPath(name).relative_to(root)
            if ".." in inside.parts or "\0" in name:
                raise RequestError("invalid_input", f"url: {name!r} leads out of its folder; rename it there")
            copy = target / inside
            copy.parent.mkdir(parents=True, exist_ok=True)
            remote.get_file(name, str(copy))
    except RequestError:
        raise
    except Exception as error:
        # Each file system behind fsspec has exceptions of its own.
        raise RequestError(
            "invalid_input", f"url: {shown} cannot be read: {error}; may this server read it?"
        ) from error
    return target
