"""A control plane with a real registry behind it, and a lifecycle that keeps what it was asked.

The lifecycle does the registry's part of each request, as any does; nothing is loaded, since there are no workers here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.control.bridge import AsyncBridge
from penstock.core.errors import RequestError
from penstock.core.models import Mirror
from penstock.registry.records import CHAMPION, UNSET, AliasRecord, Unset, WantedMode
from penstock.registry.registry import Registry
from tests.integration.control_plane import Control, control_plane

__all__ = ["Asked", "Registered", "registered_control_plane"]


@dataclass
class Asked:
    """A lifecycle without workers: every request in order, and its effect on the registry."""

    registry: Registry
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    refusal: RequestError | None = None

    async def load(self, name: str, ref: str | None, *, lazy: bool, by: str) -> None:
        self._note("load", name, ref, lazy, by)
        version = (await self.registry.version(name, ref)).version
        await self.registry.set_wanted(name, version, WantedMode.LAZY if lazy else WantedMode.LOADED, by=by)

    async def unload(self, name: str, ref: str | None, *, by: str) -> None:
        self._note("unload", name, ref, by)
        for wanted in await self.registry.wanted():
            if wanted.model == name and ref in (None, wanted.version):
                await self.registry.set_wanted(name, wanted.version, None, by=by)

    async def promote(
        self,
        name: str,
        ref: str,
        *,
        by: str,
        reason: str = "",
        mirror: Mirror | None = None,
        allow_schema_change: bool = False,
    ) -> None:
        self._note("promote", name, ref, by, reason, mirror, allow_schema_change)
        version = (await self.registry.version(name, ref)).version
        await self.registry.set_alias(name, CHAMPION, version, by=by, reason=reason)

    async def rollback(self, name: str, *, by: str, reason: str = "") -> str:
        self._note("rollback", name, by, reason)
        version = (await self.registry.rollback(name, by=by, reason=reason)).version
        assert version is not None
        return version

    async def set_alias(
        self,
        name: str,
        alias: str,
        ref: str | None,
        *,
        by: str,
        reason: str = "",
        expected: str | Unset | None = UNSET,
        allow_schema_change: bool = False,
    ) -> AliasRecord:
        self._note("set_alias", name, alias, ref, by, reason, expected, allow_schema_change)
        version = None if ref is None else (await self.registry.version(name, ref)).version
        return await self.registry.set_alias(name, alias, version, by=by, reason=reason, expected=expected)

    async def remove(self, name: str, version: str | None, *, by: str) -> None:
        self._note("remove", name, version, by)
        await self.registry.remove(name, version, by=by)

    async def keys_changed(self) -> None:
        self._note("keys_changed", len([key for key in await self.registry.keys() if key.revoked_at is None]))

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.refusal is not None:
            raise self.refusal


@dataclass(frozen=True)
class Registered:
    """The control plane, and what stands behind it."""

    control: Control
    lifecycle: Asked
    registry: Registry
    bridge: AsyncBridge
    folder: Path


@contextmanager
def registered_control_plane(folder: Path) -> Iterator[Registered]:
    """Run a control plane over a registry in `folder` until the block ends."""
    bridge = AsyncBridge()
    bridge.start()
    try:
        opened = Registry.open(f"sqlite:///{folder / 'penstock.db'}", str(folder / "artefacts"), folder / "cache")
        registry = bridge.call(opened)
        lifecycle = Asked(registry)
        more = {"registry": registry, "lifecycle": lifecycle, "bridge": bridge, "uploads": folder / "uploads"}
        with control_plane(**more) as control:
            control.source.statuses = ()
            yield Registered(control, lifecycle, registry, bridge, folder)
        bridge.call(registry.close())
    finally:
        bridge.stop()
