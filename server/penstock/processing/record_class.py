"""Records that are Python classes: the file that defines one is run, and its JSON Schema is taken.

For people who make plans. A server reads schemas and runs nothing of a plan.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from penstock.core.errors import ConfigError

__all__ = ["schema_of_class"]

_MODULE_NAME = "penstock_record"


def schema_of_class(folder: Path, named: str) -> Mapping[str, Any]:
    """Return the JSON Schema of a class that is named as `FILE.py:CLASS`, the file relative to `folder`.

    Models of pydantic describe themselves; dataclasses, TypedDict, msgspec.Struct and attrs are described by msgspec.
    ConfigError says what is missing.
    """
    name, _, class_name = named.rpartition(":")
    file = folder / name
    if not name.endswith(".py") or not class_name.isidentifier():
        raise ConfigError(f"record is {named!r}: name a class as passenger.py:Passenger, or write a schema")
    if not file.is_file():
        raise ConfigError(f"{file}: is not there, and record names a class in it")
    found = getattr(_run(file), class_name, None)
    if not isinstance(found, type):
        raise ConfigError(f"{file}: has no class {class_name}, which record names")
    try:
        return _schema(found)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{file}: {class_name} has no JSON Schema: {error}") from error


def _run(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE_NAME, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Annotations are looked up in the module that sys.modules has by a class's __module__.
    sys.modules[_MODULE_NAME] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{file}: raised while it was run for its class: {type(error).__name__}: {error}") from error
    return module


def _schema(found: type) -> Mapping[str, Any]:
    if hasattr(found, "model_json_schema"):
        described: Mapping[str, Any] = found.model_json_schema()
        return described
    try:
        from msgspec import json
    except ImportError:
        raise ConfigError("classes are described by msgspec: pip install msgspec") from None
    return json.schema(found)
