"""Packages that need not be installed."""

from __future__ import annotations

import importlib
from types import ModuleType

from penstock_client.errors import ArgumentError

__all__ = ["installed"]


def installed(name: str, extra: str) -> ModuleType:
    """Import a package; ArgumentError says what to install where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ArgumentError(f'this needs {name}: pip install "penstock-client[{extra}]"') from None
