"""What belongs to a model that is a single file, because of its name or because one of these files names it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from penstock_client.errors import ArgumentError

__all__ = ["files_beside"]

_SCHEMA = "schema.json"
_BESIDE = (_SCHEMA, "golden.json")
# What makes a folder a plain Python model, whatever else is in it.
_PYTHON_MODELS = ("__init__.py", "model.py")
_PLANS = ("processing.json", "processing.toml")


def files_beside(source: Path) -> Iterator[tuple[str, Path]]:
    """Give what is registered with `source`, each with its name in the model's folder.

    `STEM.NAME` beside it comes before `NAME`: several models may lie in one folder.
    """
    for name in _BESIDE:
        found = _beside(source, name)
        if found is not None and source.name not in _BESIDE:
            yield name, found
            if name == _SCHEMA:
                yield from _class_file(source, found)
    plans = [(name, found) for name in _PLANS if (found := _beside(source, name)) is not None]
    own = [(name, found) for name, found in plans if found.name != name] or plans
    if len(own) > 1:
        raise ArgumentError(f"{own[0][1]} and {own[1][1].name} are two plans of one model: take one of them away")
    for name, plan in own:
        yield name, plan
        for tokens in _tokenizers(plan):
            yield tokens, _named(tokens, plan)


def _beside(source: Path, name: str) -> Path | None:
    candidates = (source.with_name(f"{source.stem}.{name}"), source.with_name(name))
    return next((path for path in candidates if path.is_file() and path != source), None)


def _class_file(source: Path, schema: Path) -> Iterator[tuple[str, Path]]:
    """Give the Python file whose class the schema names. What else is wrong with the schema, the server says."""
    try:
        declared = json.loads(schema.read_bytes())["class"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return
    name = declared.rpartition(":")[0] if isinstance(declared, str) else ""
    if name in _PYTHON_MODELS:
        where = f"{schema.name} names the class file {name!r}"
        raise ArgumentError(f"{where}, which would be taken for a plain Python model: give it another name")
    if name.endswith(".py") and name != source.name:
        yield name, _named(name, schema)


def _tokenizers(plan: Path) -> list[str]:
    try:
        document = _document(plan)
    except ValueError:
        return []  # the server says what is wrong with it
    features = document.get("features")
    steps = [of.get("steps") for of in features if isinstance(of, dict)] if isinstance(features, list) else []
    named = [step.get("tokens") for of in steps if isinstance(of, list) for step in of if isinstance(step, dict)]
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def _document(plan: Path) -> Mapping[str, Any]:
    if plan.suffix == ".toml":
        try:
            import tomllib
        except ImportError:
            raise ArgumentError(f"{plan} is TOML, which Python reads from 3.11 on: write it as JSON") from None
        return tomllib.loads(plan.read_text(encoding="utf-8"))
    document = json.loads(plan.read_bytes())
    return document if isinstance(document, dict) else {}


def _named(name: str, document: Path) -> Path:
    path, folder = PurePosixPath(name), document.parent.resolve()
    found = (folder / path).resolve()
    where = f"{document.name} names the file {name!r}"
    if path.is_absolute() or ".." in path.parts or not found.is_relative_to(folder):
        raise ArgumentError(f"{where}: it must lie in the folder of {document.name}")
    if not found.is_file():
        raise ArgumentError(f"{where}, and there is none: put it beside {document.name}")
    return found
