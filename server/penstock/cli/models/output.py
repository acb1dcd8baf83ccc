"""What the server says of models, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.cli.tables import facts, size, table

__all__ = ["history_text", "list_text", "model_text", "schema_text", "version_text"]

_Json = Mapping[str, Any]


def list_text(document: _Json) -> str:
    """Return the model versions, one on a line."""
    rows = [
        (each["name"], each["version"], each["state"], each["latest"], each["aliases"], each["backend"], each["origin"])
        for each in document["models"]
    ]
    lines = [table(("NAME", "VERSION", "STATE", "LATEST", "ALIASES", "BACKEND", "ORIGIN"), rows)]
    if document["next"] is not None:
        lines.append(f"more: penstock models list --after {document['next']}")
    return "\n".join([*lines, *_failure(document)])


def model_text(document: _Json) -> str:
    """Return a model with its versions, one on a line."""
    rows = []
    for each in document["versions"]:
        registered = each["registration"] or {}
        rows.append(
            (
                each["version"],
                each["state"],
                each["latest"],
                each["aliases"],
                each["backend"],
                size(each["memory_bytes"]),
                registered.get("registered_at"),
                registered.get("registered_by"),
            )
        )
    columns = ("VERSION", "STATE", "LATEST", "ALIASES", "BACKEND", "MEMORY", "REGISTERED", "BY")
    reasons = [f"{each['version']}: {each['detail']}" for each in document["versions"] if each["detail"]]
    return "\n".join([table(columns, rows), *reasons, *_failure(document)])


def version_text(document: _Json) -> str:
    """Return everything about one version."""
    registered = document["registration"] or {}
    known = {
        "model": document["name"],
        "version": document["version"],
        "state": document["state"],
        "reason": document["detail"],
        "latest": document["latest"],
        "aliases": document["aliases"],
        "backend": document["backend"],
        "inputs": _tensors(document["inputs"]),
        "outputs": _tensors(document["outputs"]),
        "memory": size(document["memory_bytes"]),
        "digest": registered.get("digest"),
        "size": size(registered.get("bytes")),
        "registered at": registered.get("registered_at"),
        "registered by": registered.get("registered_by"),
        "load seconds": registered.get("load_seconds"),
        **{name.replace("_", " "): value for name, value in registered.get("metadata", {}).items()},
        "settings": registered.get("settings"),
        "files": [f"{file['path']} ({size(file['bytes'])})" for file in document["files"]],
    }
    text = facts(known)
    return f"{text}\n\n{document['card'].strip()}" if document["card"].strip() else text


def schema_text(document: _Json) -> str:
    """Return what a model takes and gives."""
    rows = [
        (kind, each["name"], each["dtype"], ", ".join("any" if n is None else str(n) for n in each["shape"]))
        for kind in ("inputs", "outputs")
        for each in document[kind]
    ]
    named = {"inputs": "field" if document["record"] else "input", "outputs": "output"}
    text = table(("", "NAME", "DTYPE", "SHAPE"), [(named[kind], *rest) for kind, *rest in rows])
    return f"{document['name']} {document['version']}\n{text}\nfor example: {document['call']}"


def history_text(document: _Json) -> str:
    """Return events, the newest first; for a time, which version answered where."""
    rows = [
        (each["at"], each["version"], each["kind"], each["by"], each["node"], each["detail"])
        for each in document["events"]
    ]
    text = table(("AT", "VERSION", "EVENT", "BY", "SERVER", "DETAIL"), rows)
    if document["next"] is not None:
        text += f"\nmore: penstock models history {document['name']} --before {document['next']}"
    return text


def _failure(document: _Json) -> list[str]:
    failure = document["registry_failure"]
    return [] if failure is None else [f"registered models are not shown: {failure}"]


def _tensors(tensors: Sequence[_Json]) -> list[str]:
    return [
        f"{tensor['name']} {tensor['dtype']}"
        f"[{', '.join('any' if length is None else str(length) for length in tensor['shape'])}]"
        for tensor in tensors
    ]
