"""What a model's answers depend on, as 32 bytes: servers that agree on them share answers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.errors import ModelLoadError
from penstock.worker.messages import Loaded

__all__ = ["fingerprint", "with_content"]

_LEFT_OUT = "__pycache__"
# JSON that is no model beside one that is.
_DOCUMENTS = ("schema.json", "processing.json")
# Of what follows: another one is another fingerprint.
_FORM = 1


def with_content(config: ServerConfig) -> tuple[ModelConfig, ...]:
    """Return the models of the configuration, with the digest of the files of those that share their answers.

    Reads all of them. ModelLoadError for what cannot be read. Those of the registry bring their digest.
    """
    if config.cache_redis is None:
        return config.models
    return tuple(
        replace(model, content_digest=_digest(model.path)) if model.cache_shared and model.cache_ttl_s else model
        for model in config.models
    )


def fingerprint(config: ModelConfig, loaded: Loaded) -> bytes:
    """Return what tells the version's answers from those of another one; empty when it does not share them."""
    if not (config.cache_shared and config.cache_ttl_s and config.content_digest):
        return b""
    about = {
        "form": _FORM,
        "content": config.content_digest,
        "backend": loaded.backend,
        "convert": str(config.convert),
        "inputs": [(each.name, each.ring_dtype, each.declared_shape) for each in loaded.spec.inputs],
        "outputs": [(each.name, each.ring_dtype, each.declared_shape) for each in loaded.spec.outputs],
        "record": loaded.spec.record,
        "lengths": config.lengths,
        "string_bytes_max": config.string_bytes_max,
        "reproducible_rows": config.reproducible_rows,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).digest()


def _digest(path: Path) -> str:
    """Return the SHA-256 of a model's files and of their names."""
    digest = hashlib.sha256()
    try:
        for name, file in sorted(_files_of(path)):
            with file.open("rb") as content:
                digest.update(f"{name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    except OSError as error:
        raise ModelLoadError(f"{error.filename or path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _files_of(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_dir():
        yield from _files_below(path, path)
        return
    yield "", path  # whatever it is called
    # Weights, schemas, modules and packages that lie beside it are nowhere listed: all are taken for its own but other
    # models of its kind. A module may be any Python file.
    for beside in path.parent.iterdir():
        own = beside.suffix != path.suffix or path.suffix == ".py" or beside.name.endswith(_DOCUMENTS)
        if beside.is_dir():
            # No package begins with a dot, and a repository's history or an environment may be large.
            if beside.name != _LEFT_OUT and not beside.name.startswith("."):
                yield from _files_below(beside, path.parent)
        elif beside != path and beside.is_file() and own:
            yield beside.name, beside


def _files_below(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != _LEFT_OUT]
        for name in files:
            file = Path(parent, name)
            # A pipe or a socket has no content, and whoever reads it waits.
            if file.is_file():
                yield str(file.relative_to(root)), file
