"""Run as a script: tells what the native modules are and whether they fit each other, as JSON.

In a process of its own, since a module for another processor ends the process that loads it.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

__all__: list[str] = []

MODULES = ("_kernels", "_batcher", "_dataplane")


def survey() -> dict[str, Any]:
    """Import the modules and try them."""
    found: dict[str, Any] = {"missing": [], "broken": {}, "stale": {}}
    modules: dict[str, ModuleType] = {}
    for name in MODULES:
        try:
            modules[name] = import_module(f"penstock.native.{name}")
        except ModuleNotFoundError as error:
            if error.name == f"penstock.native.{name}":
                found["missing"].append(name)
            else:
                found["broken"][name] = str(error)
        except Exception as error:  # whatever its initialisation raises
            found["broken"][name] = f"{type(error).__name__}: {error}"
    for name, module in modules.items():
        absent = _absent(module)
        if absent:
            found["stale"][name] = absent
    if len(modules) == len(MODULES) and not found["stale"]:
        found |= _tried(modules)
    return found


def _absent(module: ModuleType) -> list[str]:
    """Return what the committed stub promises and the module does not have."""
    stub = Path(module.__file__ or "").parent / f"{module.__name__.rpartition('.')[2]}.pyi"
    if not stub.is_file():
        return []
    absent = []
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not hasattr(module, node.name):
            absent.append(node.name)
        elif isinstance(node, ast.ClassDef):
            known = getattr(module, node.name)
            parts = [part.name for part in node.body if isinstance(part, ast.FunctionDef)]
            absent += [f"{node.name}.{part}" for part in parts if not hasattr(known, part)]
    return absent


def _tried(modules: dict[str, ModuleType]) -> dict[str, Any]:
    kernels, batcher, dataplane = (modules[name] for name in MODULES)
    try:
        lane = kernels.lane()
    except Exception as error:  # PENSTOCK_LANE names none, or one that this processor lacks
        return {"lane_refused": str(error), "lanes": kernels.lanes()}
    # A ring made by one module and opened by the other: they refuse each other's when they were built apart.
    engine = dataplane.Engine(body_pool_bytes=1 << 20)
    ring = engine.add_ring("m", "1", [("x", "float32", (1,))], [("y", "float32", (1,))], queue_bytes=4096)
    try:
        batcher.Taker([engine.ring_fd(ring)], [os.eventfd(0, os.EFD_CLOEXEC)], 0)
        apart = ""
    except (RuntimeError, ValueError) as error:
        apart = str(error)
    return {
        "lane": lane,
        "lanes": kernels.lanes(),
        "apart": apart,
        "http2": dataplane.has_http2(),
        "tls": dataplane.has_tls(),
        "codings": dataplane.codings_taken(),
    }


if __name__ == "__main__":
    json.dump(survey(), sys.stdout)
