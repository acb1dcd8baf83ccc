"""The command `penstock doctor`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import Debug, KeyFile, Url
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("doctor")
def _doctor(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings of the server [PENSTOCK_CONFIG].", show_default=False)
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Check whether a server would do well here: what is wrong or missing, and the command that mends it.

    With --url or PENSTOCK_URL also the server there. Changes nothing. Exits with 0 without a fault, 1 with one.
    """
    with told_plainly(debug):
        from penstock.cli.doctor.checks import State
        from penstock.cli.doctor.report import as_document, as_text, examine

        sections = examine(config, url or os.environ.get("PENSTOCK_URL"), key_file, debug=debug)
        typer.echo(as_document(sections) if as_json else as_text(sections))
    if any(check.state is State.FAULT for checks in sections.values() for check in checks):
        raise typer.Exit(1)
