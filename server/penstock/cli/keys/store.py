"""The keys in the store that the settings name."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from penstock.core.config import ServerConfig
from penstock.core.errors import ConfigError, PenstockError, RequestError
from penstock.core.secrets import without_secrets
from penstock.core.sources import load_config
from penstock.registry.places import registry_places
from penstock.registry.records import KeyRecord, Role
from penstock.registry.registry import Registry

__all__ = ["create", "everyone", "revoke"]

_T = TypeVar("_T")
_Json = dict[str, object]


def create(name: str, role: str, flags: Mapping[str, str], config: Path | None) -> tuple[_Json, str]:
    """Make a key; what is known of it and where it is kept, and its text."""
    roles = [each.value for each in Role]
    if role not in roles:
        raise ConfigError(f"--role {role!r}: expected one of {', '.join(roles)}")
    record, text = _with_registry(flags, config, lambda registry: registry.create_key(name, Role(role), by=_who()))
    store, _, _ = registry_places(_settings(flags, config))
    return {**_shown(record), "store": without_secrets(store)}, text


def everyone(flags: Mapping[str, str], config: Path | None) -> list[_Json]:
    """Return all keys."""
    return [_shown(record) for record in _with_registry(flags, config, lambda registry: registry.keys())]


def revoke(id: str, flags: Mapping[str, str], config: Path | None) -> _Json:
    """Revoke a key."""
    return _shown(_with_registry(flags, config, lambda registry: registry.revoke_key(id, by=_who())))


def _with_registry(flags: Mapping[str, str], config: Path | None, ask: Callable[[Registry], Awaitable[_T]]) -> _T:
    settings = _settings(flags, config)

    async def run() -> _T:
        registry = await Registry.open(*registry_places(settings))
        try:
            return await ask(registry)
        finally:
            await registry.close()

    try:
        return asyncio.run(run())
    except RequestError as error:
        # Its text is for the operator, who is the one that reads it here.
        raise PenstockError(str(error)) from error


def _settings(flags: Mapping[str, str], config: Path | None) -> ServerConfig:
    return load_config(file=config, environment=os.environ, flags=flags)


def _who() -> str:
    """Return who asks, for the record: there is no key yet that could say."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError):
        return f"uid {os.getuid()} (command line)"


def _shown(record: KeyRecord) -> _Json:
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role.value,
        "created_at": record.created_at.isoformat(timespec="seconds"),
        "created_by": record.created_by,
        "revoked_at": None if record.revoked_at is None else record.revoked_at.isoformat(timespec="seconds"),
    }
