"""`penstock calibrate`: what an answer needs to know of how right its model is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import AsJson, Debug
from penstock.cli.plainly import told_plainly, warn

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("calibrate")
def _calibrate(
    plan: Annotated[
        Path,
        typer.Argument(metavar="PLAN", help="A plan with an answer, or its folder.", show_default=False),
    ],
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="The model's outputs and the truth: .csv, .parquet or .npz.", show_default=False
        ),
    ],
    truth: Annotated[str, typer.Option(metavar="COLUMN", help="Where the truth is.", show_default=False)],
    of: Annotated[
        str | None, typer.Option(metavar="OUTPUT", help="The model's output [the answer's only one].")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="temperature, platt or isotonic [keep what is there].", show_default=False),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(help="Sets, or intervals, may miss the truth this often [none].", show_default=False),
    ] = None,
    rule: Annotated[str, typer.Option(metavar="NAME", help="Of sets: lac or aps.")] = "lac",
    precision: Annotated[
        float | None,
        typer.Option(help="Abstain where fewer of a label's rows are right [never].", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to write [PLAN].", show_default=False)
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Learn how probabilities are to be bent, how large sets and intervals must be, and when to abstain.

    The rows must be new to the model. With --method and something else beside it half of them is for the method, and
    the other half for the rest.
    """
    with told_plainly(debug, status=2):
        from penstock.cli.calibrate.checks import Doubt
        from penstock.cli.calibrate.learning import Wanted, calibrate

        wanted = Wanted(truth=truth, of=of, method=method, alpha=alpha, rule=rule, precision=precision)
        lines = list(calibrate(plan, table, wanted, output))
        if as_json:
            *learned, written = (line for line in lines if not isinstance(line, Doubt))
            doubts = [line for line in lines if isinstance(line, Doubt)]
            document = {"output": written.removesuffix(": written"), "learned": learned, "warnings": doubts}
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        for line in lines:
            if isinstance(line, Doubt):
                warn(line)
            else:
                typer.echo(line)
