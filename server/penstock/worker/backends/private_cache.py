"""Folders for what is compiled for this machine."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.core.errors import ModelLoadError

__all__ = ["cache_folder"]


def cache_folder(name: str) -> Path:
    """Return the folder of that name. Machine code is loaded from there: nobody else may write to it."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "penstock" / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = folder.stat()
    except OSError as error:
        raise ModelLoadError(
            f"the folder for compiled models, {folder}, cannot be made: {error.strerror}; set XDG_CACHE_HOME "
            "to one that can"
        ) from error
    if state.st_uid != os.geteuid() or state.st_mode & 0o022:
        raise ModelLoadError(
            f"the folder for compiled models, {folder}, can be written by others: make it yours alone, chmod 700"
        )
    return folder
