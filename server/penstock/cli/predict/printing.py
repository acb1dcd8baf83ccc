"""Answers for people, and for the next program in a pipe."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from penstock.cli.tables import facts, table

if TYPE_CHECKING:
    import penstock_client

__all__ = ["print_one", "print_rows"]

# Longer lists are cut, for people only.
_SHOWN_MAX = 16
_BAR_WIDTH = 24


def print_one(answer: penstock_client.Prediction, as_json: bool) -> None:
    """Print the answer to one row."""
    receipt = None if answer.receipt is None else asdict(answer.receipt)
    if as_json:
        document = {"model": answer.model, "version": answer.version, "outputs": answer.outputs}
        if receipt is not None:
            document["receipt"] = receipt
        typer.echo(_json({**document, "request_id": answer.request_id}))
        return
    if sys.stdout.isatty():
        _print_panel(answer.outputs, f"{answer.model} {answer.version}")
    else:
        typer.echo(facts({name: _json(value) for name, value in answer.outputs.items()}))
    if receipt is not None:
        typer.echo(facts({name.replace("_", " "): value for name, value in receipt.items()}), err=True)


def print_rows(answers: Iterable[Mapping[str, Any]], as_json: bool) -> int:
    """Print the answers to rows, each {"outputs": ...} or {"error": ...}; return how many failed."""
    failed, outputs = 0, []
    for row, answer in enumerate(answers):
        if as_json:
            typer.echo(_json(answer))
        elif "error" not in answer:
            outputs.append((row, answer["outputs"]))
        if (error := answer.get("error")) is not None:
            failed += 1
            sys.stderr.write(f"penstock: row {row}: {error['detail']} ({error['code']})\n")
    if not as_json and outputs:
        names = list(outputs[0][1])
        typer.echo(
            table(["ROW", *names], [[row, *(_short(values[name]) for name in names)] for row, values in outputs])
        )
    return failed


def _json(value: object) -> str:
    return json.dumps(_named(value), ensure_ascii=False)


def _named(value: Any) -> Any:
    """Return a value with strings for numbers that JSON has not, as the server writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _named(item) for name, item in value.items()}
    return [_named(item) for item in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > _SHOWN_MAX:
        return f"[{', '.join(map(_short, value[:_SHOWN_MAX]))}, ... {len(value)} in all]"
    if isinstance(value, list):
        return f"[{', '.join(map(_short, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else _json(value)


def _print_panel(outputs: Mapping[str, Any], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(title=title, title_justify="left", box=box.SIMPLE, show_header=False, pad_edge=False)
    for name, value in outputs.items():
        cell = _bars(value) if _is_shares(value) else Text(_short(value))
        grid.add_row(Text(name, style="bold"), cell)
    # What models answer is no markup, and no emoji.
    Console(markup=False, emoji=False, highlight=False).print(grid)


def _is_shares(value: Any) -> bool:
    """Whether a value is probabilities of classes."""
    if not isinstance(value, list) or not 2 <= len(value) <= _SHOWN_MAX:
        return False
    return all(isinstance(share, float | int) and 0 <= share <= 1 for share in value) and abs(sum(value) - 1) < 0.01


def _bars(shares: Sequence[float]) -> Any:
    from rich.text import Text

    lines = [
        f"{number:>2}  {share:6.1%}  {'█' * round(share * _BAR_WIDTH)}".rstrip() for number, share in enumerate(shares)
    ]
    return Text("\n".join(lines))
