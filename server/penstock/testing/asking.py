"""Asks a model one row, once, and keeps what came of it, refusals included."""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import penstock_client
from penstock.testing.rows import PlainRow
from penstock.testing.target import Target
from penstock_client import Encoding

__all__ = ["Answer", "GoneError", "ask", "minimised", "to_repeat"]

# Codes after which asking on says nothing of the rows that follow.
_GONE = ("worker_died", "model_unavailable", "draining", "model_loading")
_TIMEOUT_S = 60.0
# Of a call that a person copies.
_CALL_CHARACTERS_MAX = 2000
_TRIES_MAX = 60


class GoneError(Exception):
    """The model, or its server, does not answer any more; its text says how that came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a row: outputs, or the code and status of a refusal."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200
    code: str = ""
    detail: str = ""

    @property
    def gone(self) -> bool:
        """Whether the model was taken away by the row."""
        return self.code in _GONE

    def __str__(self) -> str:
        return "200" if self.status == 200 else f"{self.status} {self.code}: {self.detail}"


def ask(target: Target, row: Mapping[str, Any], encoding: Encoding = "json", *, reproducible: bool = False) -> Answer:
    """Ask once. GoneError when nothing answers; ArgumentError when an encoding has no form for the row."""
    try:
        answer = target.client.predict(
            target.name,
            row,
            version=target.version,
            encoding=encoding,
            reproducible=reproducible,
            timeout_s=_TIMEOUT_S,
        )
    except penstock_client.RefusedError as error:
        return Answer({}, error.status, error.code, error.detail)
    except penstock_client.TransportError as error:
        raise GoneError(str(error)) from error
    return Answer(answer.outputs)


def minimised(row: PlainRow, plain: PlainRow, fails: Callable[[PlainRow], bool]) -> PlainRow:
    """Return the row with as much as can be taken from a plain one, so that it still fails."""
    tries = 0
    for name in list(row):
        if name in plain and row[name] != plain[name] and tries < _TRIES_MAX:
            tries += 1
            simpler = {**row, name: plain[name]}
            if fails(simpler):
                row = simpler
                continue
            if isinstance(row[name], list) and isinstance(plain[name], list) and len(row[name]) == len(plain[name]):
                row, used = _halved(row, name, plain[name], fails, _TRIES_MAX - tries)
                tries += used
    return row


def _halved(
    row: PlainRow, name: str, plain: list[Any], fails: Callable[[PlainRow], bool], tries: int
) -> tuple[PlainRow, int]:
    """Put plain items into a list, in pieces that get smaller."""
    piece, used = max(1, len(plain) // 2), 0
    while used < tries:
        for first in range(0, len(plain), piece):
            last = first + piece
            if row[name][first:last] == plain[first:last] or used >= tries:
                continue
            used += 1
            simpler = {**row, name: [*row[name][:first], *plain[first:last], *row[name][last:]]}
            if fails(simpler):
                row = simpler
        if piece == 1:
            break
        piece //= 2
    return row, used


def to_repeat(target: Target, row: Mapping[str, Any]) -> str:
    """Return the command that sends a row to a server again; what nobody could read goes to a file."""
    body = json.dumps({"model": target.name, "inputs": _named(row)}, ensure_ascii=False, separators=(",", ":"))
    if len(body) > _CALL_CHARACTERS_MAX:
        with tempfile.NamedTemporaryFile(
            "w", prefix="penstock-test-row-", suffix=".json", encoding="utf-8", delete=False
        ) as file:
            file.write(body)
        body = f"@{file.name}"
    where = target.url
    at = (
        f"--unix-socket {shlex.quote(where.removeprefix('unix:'))} http://penstock"
        if where.startswith("unix:")
        else where
    )
    return f"curl -s {at}/predict -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def _named(value: Any) -> Any:
    """Write numbers that are not finite as the server takes them."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _named(item) for name, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list) else value
