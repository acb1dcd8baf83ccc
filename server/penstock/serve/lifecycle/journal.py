"""What happened on this server, written into the registry's history: late rather than never."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.core.errors import RegistryUnavailableError, RequestError
from penstock.core.status import ModelStatus
from penstock.registry.records import EventKind, VersionRecord

if TYPE_CHECKING:
    from penstock.registry.registry import Registry

__all__ = ["Journal"]

_log = logging.getLogger("penstock.lifecycle")

# Of a registry that stays away for long the oldest events are lost; the log has them.
_UNSAVED_MAX = 10_000


class Journal:
    """Writes events with the time at which they happened. Used on one loop.

    A swap must not fail because its record cannot be written: what could not is written by the next flush().
    """

    def __init__(self, registry: Registry, node: str) -> None:
        self._registry = registry
        self._node = node
        self._unsaved: deque[Callable[[], Awaitable[object]]] = deque(maxlen=_UNSAVED_MAX)
        # Whoever flushes writes what others have added, too: two at once would write the same event.
        self._flushing = asyncio.Lock()

    async def note(
        self, version: VersionRecord, kind: EventKind, by: str, detail: str = "", at: datetime | None = None
    ) -> None:
        """Record that something happened to a version, now or at a given time."""
        at = at or datetime.now(UTC)
        await self._write(
            lambda: self._registry.note(
                version.model, version.version, kind, by=by, node=self._node, detail=detail, at=at
            )
        )

    async def note_loaded(self, version: VersionRecord, status: ModelStatus, seconds: float, memory: int) -> None:
        """Record what is known of a version now that it has been loaded."""
        await self._write(
            lambda: self._registry.note_loaded(
                version.model,
                version.version,
                inputs=status.inputs,
                outputs=status.outputs,
                optional=status.optional,
                nullable=status.nullable,
                load_seconds=seconds,
                memory_bytes=memory,
                backend=status.backend or "auto",
            )
        )

    async def flush(self) -> None:
        """Write what could not be written before."""
        async with self._flushing:
            while self._unsaved:
                write = self._unsaved[0]
                try:
                    await write()
                except RegistryUnavailableError:
                    return
                except RequestError as error:
                    _log.warning("an event is not recorded", extra={"reason": str(error)})
                # A full deque has dropped it itself meanwhile.
                if self._unsaved and self._unsaved[0] is write:
                    self._unsaved.popleft()

    async def _write(self, write: Callable[[], Awaitable[object]]) -> None:
        self._unsaved.append(write)
        await self.flush()
