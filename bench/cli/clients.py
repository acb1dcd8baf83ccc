"""The command that measures what clients cost whoever uses them."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated

import typer

from bench.cli.app import Rounds, app, running
from bench.results import Results


@app.command("sdk")
def sdk(
    rounds: Rounds = 9,
    calls: Annotated[int, typer.Option(min=10, help="Calls of each client in a round.")] = 2000,
    at_once: Annotated[int, typer.Option(min=1, help="Tasks of asyncio at a time.")] = 64,
) -> None:
    """Compare the Python SDK with bare HTTP libraries, in one process; fails when it costs more than it may."""
    # The SDK and aiohttp, which nothing else here needs.
    from bench.sdk_judged import judge_sdk

    print(Results(shlex.join(sys.argv[1:])).machine, flush=True)
    with running() as folder:
        kept = judge_sdk(folder, rounds, calls, at_once)
    if not kept:
        raise typer.Exit(1)
