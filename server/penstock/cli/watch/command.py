"""The command `penstock watch`."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.completing import model_names
from penstock.cli.options import Debug, KeyFile, Url
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("watch")
def _watch(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="This one alone, in detail [all].",
            show_default=False,
            autocompletion=model_names,
        ),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, metavar="S", help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Show one interval as plain text, and end.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON document for each interval, one a line.")
    ] = False,
    url: Url = None,
    key_file: KeyFile = None,
    debug: Debug = False,
) -> None:
    """Watch a server: rates, latencies, batches, queues, errors, versions, workers and GPUs. q or Ctrl-C ends it.

    A server that goes away is waited for. Into a pipe it writes one plain picture after the other.
    """
    with told_plainly(debug):
        from penstock.cli.watch.running import WatchOptions, run_watch

        run_watch(WatchOptions(model, interval, once, as_json, url, key_file))
