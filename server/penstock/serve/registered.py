"""The registry as a part of the server: opened at the start, followed while it runs, closed at the end."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.config import ServerConfig
from penstock.core.errors import RegistryUnavailableError, StartError
from penstock.registry.places import registry_places
from penstock.serve.lifecycle import Following, LifecycleOptions, RegistryLifecycle, RepositoryFolder

if TYPE_CHECKING:
    from penstock.control.bridge import AsyncBridge
    from penstock.native._dataplane import Engine
    from penstock.registry.registry import Registry
    from penstock.serve.supervisor import Supervisor

__all__ = ["Registered", "follow_registry", "open_registry"]

_log = logging.getLogger("penstock.serve")


@dataclass(frozen=True, slots=True)
class Registered:
    """The registry, and what brings about here what it says."""

    registry: Registry
    lifecycle: RegistryLifecycle
    following: Following


def open_registry(config: ServerConfig, bridge: AsyncBridge, cleanup: ExitStack) -> tuple[Registry | None, str]:
    """Open the registry; or None, and why it cannot be.

    StartError when the configuration names it and it cannot be opened: then it is missed.
    """
    from penstock.registry.registry import Registry

    try:
        registry = bridge.call(Registry.open(*registry_places(config)))
    except RegistryUnavailableError as error:
        if config.data_dir is not None or config.store is not None or config.artefacts is not None:
            raise StartError(f"the registry cannot be opened: {error}") from error
        _log.warning(
            "serving without a registry; set data_dir to a folder that can be written", extra={"why": str(error)}
        )
        # Clients are told this; the reason may name places.
        return None, "it could not be opened when the server started, whose log says why"
    cleanup.callback(lambda: bridge.finish(registry.close()))
    return registry, ""


def follow_registry(
    config: ServerConfig, port: int, registry: Registry, supervisor: Supervisor, engine: Engine
) -> Registered:
    """Make what follows the registry; it does nothing before it is started."""
    node = f"{socket.gethostname()}:{port}"
    options = LifecycleOptions(
        node=node,
        configured=frozenset(model.name for model in config.models),
        defaults=config.model_defaults,
        standby_s=config.standby_s,
        memory_budget_bytes=config.memory_budget_bytes,
        require_key=config.require_key,
        development=config.development,
    )
    lifecycle = RegistryLifecycle(registry, supervisor, engine, options)
    repository = RepositoryFolder(config.repository) if config.repository is not None else None
    following = Following(lifecycle, registry, engine, node, repository, config.repository_poll_s)
    return Registered(registry, lifecycle, following)
