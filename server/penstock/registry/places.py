"""Where the registry of a server is, as its settings say."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.core.config import ServerConfig

__all__ = ["data_folder", "registry_places"]


def data_folder(config: ServerConfig) -> Path:
    """Return the folder of the registry: as configured, else where this user's programs keep their data."""
    if config.data_dir is not None:
        return config.data_dir
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / "penstock"


def registry_places(config: ServerConfig) -> tuple[str, str, Path]:
    """Return what Registry.open() takes: the database, the artefacts, and the folder for copies of them."""
    folder = data_folder(config)
    store = config.store or f"sqlite:///{folder / 'penstock.db'}"
    return store, config.artefacts or str(folder / "artefacts"), folder / "cache"
