"""The perceptron of W1 behind a plan: 20 mixed fields become its 32 numbers, and its output a label."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.models.graphs import write_mlp
from bench.models.mlp import mlp_answers, mlp_layers
from penstock.load.rows import Row

__all__ = ["PLANNED_WIDTHS", "planned_answers", "planned_rows", "write_planned"]

PLANNED_WIDTHS = (32, 64, 64, 3)
NUMBERS, LOGS, SPREAD, ORDERED = (
    tuple(f"{kind}{place}" for place in range(count))
    for kind, count in (("number", 11), ("amount", 2), ("kind", 4), ("grade", 3))
)
WORDS = ("ash", "elm", "oak", "yew")
LABELS = ("low", "middle", "high")
CENTER, WIDTH = 4.0, 2.5
MISSING = 0.05  # of the numbers


def write_planned(folder: Path, *, record: bool = True) -> Path:
    """Write the model's folder, with a plan that has a record and features or an answer only; its path."""
    write_mlp(folder / "model.onnx", PLANNED_WIDTHS)
    plan: dict[str, Any] = {"format": 1}
    if record:
        plan |= {"record": _record(), "features": _features()}
    plan["answer"] = {"y": {"scores": "none", "labels": LABELS, "give": ["label", "confidence"]}}
    (folder / "processing.json").write_text(json.dumps(plan))
    return folder


def planned_rows(count: int, seed: int) -> list[Row]:
    """Draw records: skewed numbers with two decimals, some of them left out, and words."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for _ in range(count):
        numbers = np.round(generator.gamma(2, 2, len(NUMBERS)), 2)
        known = generator.random(len(NUMBERS)) >= MISSING
        row = {name: np.array(value) for name, value, here in zip(NUMBERS, numbers, known, strict=True) if here}
        row |= {name: np.array(round(generator.gamma(2, 20), 2)) for name in LOGS}
        rows.append(row | {name: np.array(str(generator.choice(WORDS)), object) for name in SPREAD + ORDERED})
    return rows


def planned_answers(rows: Sequence[Row]) -> list[Row]:
    """Answer one row at a time, in float64: of records, or of the 32 numbers as they are."""
    known = mlp_answers(mlp_layers(PLANNED_WIDTHS), [{"x": _inputs(row)} for row in rows])
    return [
        {"label": np.array(LABELS[int(answer["y"].argmax())], object), "confidence": np.array(answer["y"].max())}
        for answer in known
    ]


def _inputs(row: Row) -> NDArray[np.float64]:
    if "x" in row:
        return row["x"]
    numbers = [float(row.get(name, CENTER)) for name in NUMBERS]
    spread = [float(row[name].item() == word) for name in SPREAD for word in WORDS]
    logs = [float(np.log1p(row[name])) for name in LOGS]
    grades = [float(WORDS.index(row[name].item())) for name in ORDERED]
    return np.array([*((value - CENTER) / WIDTH for value in numbers), *logs, *spread, *grades])


def _record() -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "number", "minimum": 0} for name in NUMBERS + LOGS}
    properties |= {name: {"enum": WORDS} for name in SPREAD + ORDERED}
    return {"type": "object", "properties": properties, "required": LOGS + SPREAD + ORDERED}


def _features() -> list[dict[str, Any]]:
    places = [[word, place] for place, word in enumerate(WORDS)]
    filled = [{"impute": "constant", "value": CENTER}, {"scale": "standard", "center": CENTER, "width": WIDTH}]
    return [
        {"columns": NUMBERS, "steps": filled},
        {"columns": LOGS, "steps": [{"log": 1}]},
        {"columns": SPREAD, "steps": [{"encode": "one-hot", "numbers": places, "width": len(WORDS)}]},
        {"columns": ORDERED, "steps": [{"encode": "ordinal", "numbers": places}]},
    ]
