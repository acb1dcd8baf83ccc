"""Plans for tests, written and read as a person's are."""

import json
from pathlib import Path
from typing import Any

from penstock.processing.offline import inputs_of, transform
from penstock.processing.plan import Plan, read_plan

AGE = {"type": ["number", "null"], "minimum": 0, "maximum": 120}
SEX = {"enum": ["female", "male"]}
PASSENGER = {"age": AGE, "sex": SEX, "fare": {"type": "number", "exclusiveMinimum": -1}}


def written(tmp_path: Path, document: dict[str, Any], name: str = "processing.json") -> Path:
    file = tmp_path / name
    file.write_text(json.dumps({"format": 1, **document}))
    return file


def plan_of(tmp_path: Path, features: list[dict[str, Any]], record: dict[str, Any] | None = None) -> Plan:
    return read_plan(written(tmp_path, {"record": PASSENGER if record is None else record, "features": features}))


def values_of(plan: Plan, table: dict[str, list[Any]]) -> list[list[float]]:
    ((_, values),) = transform(plan, table, inputs_of(plan, "float64")).values()
    return values.tolist()
