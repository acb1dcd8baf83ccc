"""The JSON that rivals without an API of their own are asked in: an object by input name, answered by output name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from penstock.load.dialects import HttpRequest, json_values
from penstock.load.rows import Row, TensorSpec

__all__ = ["PlainJson"]


@dataclass(frozen=True, slots=True)
class PlainJson:
    """POST {"x": [...]} to `prefix` + model name, answered by {"y": [...]}."""

    prefix: str = "/models/"
    name: str = "plain"

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""
        inputs = ",".join(f"{json.dumps(name)}:{json_values(array)}" for name, array in row.items())
        return HttpRequest(self.prefix + model, {"Content-Type": "application/json"}, f"{{{inputs}}}".encode())

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read {output name: value}."""
        values = json.loads(body)
        return {spec.name: np.array(values[spec.name], dtype=spec.dtype) for spec in outputs}
