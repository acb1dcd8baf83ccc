"""What batches of some sizes take, as `penstock simulate` is told: in text, in JSON, or as a server answers it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import ConfigError

__all__ = ["curve_of", "interpolated", "read_curve"]

EXPECTED = (
    'expected JSON: an object like {"1": 0.5, "64": 3.2} (milliseconds by rows), '
    "or what /models/NAME of a server answers, or its cost"
)


def read_curve(text: str) -> Mapping[int, float]:
    """Read milliseconds by rows: `1:0.5,64:3.2`, or the name of a JSON file."""
    if not text:
        raise ConfigError("--curve is empty: give ROWS:MS,... or the name of a JSON file")
    place = f"the curve {text!r}"
    if ":" in text:
        return curve_of(place, [point.partition(":")[::2] for point in text.split(",")])
    try:
        document = json.loads(Path(text).read_text())
    except OSError as error:
        raise ConfigError(f"{place} is not ROWS:MS,... and as a JSON file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{place} is not JSON ({error}); {EXPECTED}") from error
    return _of_document(place, document)


def curve_of(place: str, pairs: Iterable[Sequence[Any]]) -> Mapping[int, float]:
    """Make a curve of pairs of rows and milliseconds, numbers or text."""
    try:
        return {int(rows): float(ms) for rows, ms in pairs}
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{place} is not made of ROWS:MS: whole rows and milliseconds") from error


def interpolated(points: Sequence[tuple[int, float]], rows: int) -> float:
    """Milliseconds that so many rows take, by ascending points."""
    if len(points) == 1:
        # Half of it fixed, as the engine assumes until it has seen a second size.
        return points[0][1] * (1 + rows / points[0][0]) / 2
    above = next((i for i in range(1, len(points)) if points[i][0] >= rows), len(points) - 1)
    (x0, y0), (x1, y1) = points[above - 1], points[above]
    return max(y0 + (y1 - y0) * (rows - x0) / (x1 - x0), points[0][1] / points[0][0])


def _of_document(place: str, document: object) -> Mapping[int, float]:
    if isinstance(document, dict) and "cost" in document:
        document = document["cost"]
        if document is None:
            raise ConfigError(f"{place}: cost is null: the server had not run the model yet; ask it again when it has")
    if not isinstance(document, dict):
        raise ConfigError(f"{place}: {EXPECTED}")
    if "curve" not in document:
        try:
            return curve_of(place, document.items())
        except ConfigError as error:
            raise ConfigError(f"{place}: {EXPECTED}") from error
    try:
        return {int(point["rows"]): 1000 * float(point["mean_seconds"]) for point in document["curve"]}
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ConfigError(f'{place}: the points of its JSON are not {{"rows": 1, "mean_seconds": 0.0005}}') from error
