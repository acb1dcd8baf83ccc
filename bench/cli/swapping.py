"""The command that swaps versions under load."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from bench.cli.app import app, running
from bench.report.progress import showing_progress
from bench.results import Results
from bench.swaps import SwapOptions, judge, run_swaps
from bench.verdicts import print_verdicts


@app.command("swaps")
def swaps(
    count: Annotated[int, typer.Option("--onnx", min=0, help="Swaps between two versions in ONNX.")] = 1000,
    pytorch: Annotated[int, typer.Option(min=0, help="The same as PyTorch exported programs (penstock[torch]).")] = 0,
    tensorflow: Annotated[int, typer.Option(min=0, help="The same as SavedModels (penstock[tensorflow]).")] = 0,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Requests per second; half of the capacity if not given.")
    ] = None,
    rollbacks: Annotated[int, typer.Option(min=0, help="Rollbacks that are timed afterwards.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One document with everything instead of a table.")] = False,
) -> None:
    """Swap versions under load: nothing fails, nothing is mixed, memory stays flat, and no second gets slow."""
    results = Results(shlex.join(sys.argv[1:]))
    counts = {"onnx": count, "pytorch": pytorch, "tensorflow": tensorflow}
    with running() as folder, showing_progress() as watch:
        for form, wanted in counts.items():
            if wanted == 0:
                continue
            options = SwapOptions(
                folder / form, form, swaps=wanted, rate=rate, rollbacks=rollbacks, watch=watch, note=_note
            )
            found = run_swaps(options)
            results.swaps.append(found)
            results.verdicts += judge(found)
    saved = results.save()
    if as_json:
        print(json.dumps(asdict(results)))
    else:
        print(results.machine)
        print_verdicts(results.verdicts)
        print(f"\n{saved}")
    if not all(verdict.reached for verdict in results.verdicts):
        raise typer.Exit(1)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
