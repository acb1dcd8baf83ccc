"""Folders as MLflow 3.17 lays them out, without MLflow: its own files beside MLmodel are left out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import skops.io

__all__ = ["as_skops", "column", "folder", "tensor"]


def tensor(dtype: str, *shape: int, name: str | None = None) -> dict[str, Any]:
    """Return a tensor of a signature; the batch is its first size, -1."""
    spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": list(shape)}}
    return spec if name is None else {"name": name} | spec


def column(name: str, kind: str) -> dict[str, Any]:
    """Return a column of a signature."""
    return {"type": kind, "name": name, "required": True}


def folder(
    path: Path,
    flavours: Mapping[str, Mapping[str, Any]],
    inputs: Sequence[Mapping[str, Any]] = (),
    outputs: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Make the folder and write its MLmodel."""
    path.mkdir(parents=True, exist_ok=True)
    lines = ["flavors:"]
    for name, members in {**flavours, "python_function": {"loader_module": "mlflow", "env": None}}.items():
        lines.append(f"  {name}:")
        lines += [f"    {key}: {json.dumps(value)}" for key, value in members.items()]
    lines += ["is_signature_from_type_hint: false", "mlflow_version: 3.17.2", "model_id: null"]
    if inputs:
        # A text of JSON, as MLflow has it: YAML quotes it as it does any other.
        lines += ["signature:", f"  inputs: {json.dumps(json.dumps(list(inputs)))}"]
        lines += [f"  outputs: {json.dumps(json.dumps(list(outputs)))}", "  params: null"]
    (path / "MLmodel").write_text("\n".join([*lines, "utc_time_created: '2026-11-21 10:16:51.838055'", ""]))
    return path


def as_skops(path: Path, estimator: Any, **signature: Any) -> Path:
    """Make the folder of an estimator that is saved with skops."""
    flavour = {"pickled_model": "model.skops", "serialization_format": "skops", "skops_trusted_types": None}
    folder(path, {"sklearn": flavour}, **signature)
    skops.io.dump(estimator, path / "model.skops")
    return path
