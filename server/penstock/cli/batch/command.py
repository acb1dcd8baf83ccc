"""The command `penstock batch`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.completing import one_of
from penstock.cli.options import Debug, KeyFile, Model, Url
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_COLUMNS = "COLUMN[,COLUMN...]"
_FORMATS = one_of("ndjson", "csv", "parquet", "arrow", "arrow-stream")


@app.command("batch")
def _batch(
    model: Model,
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="A file of rows, or - for standard input.", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUTPUT", help="The file of answers [printed].", show_default=False),
    ] = "-",
    errors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows that fail go there instead.", show_default=False)
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar=_COLUMNS, help="Into the output, and not to the model.", show_default=False),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar=_COLUMNS, help="Neither into the output nor to the model.", show_default=False),
    ] = None,
    read_as: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FORMAT", help="Of the input [by its name].", show_default=False, autocompletion=_FORMATS
        ),
    ] = None,
    write_as: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FORMAT", help="Of the output [by its name].", show_default=False, autocompletion=_FORMATS
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="A version or an alias.", show_default=False)
    ] = None,
    chunk_rows: Annotated[int, typer.Option(min=1, max=65_536, help="Rows of a request at most.")] = 1024,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Requests at a time.")] = 4,
    timeout: Annotated[float, typer.Option(min=0.001, metavar="S", help="Seconds for a request, tried again.")] = 300.0,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever is there.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of it as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Run a file of rows through a model: penstock batch iris flowers.csv -o answers.csv.

    Formats are ndjson, csv, parquet, arrow and arrow-stream. The same command goes on where it was stopped. Exits with
    1 when a row failed.
    """
    with told_plainly(debug):
        from penstock.cli.asking import client_of
        from penstock.cli.batch.choice import choice_of
        from penstock.cli.batch.files import format_of
        from penstock.cli.batch.options import BatchOptions
        from penstock.cli.batch.progress import Told
        from penstock.cli.batch.running import begun_with, run_batch
        from penstock.core.errors import ConfigError
        from penstock_client import Retries

        if output == "-" and (as_json or errors is not None or restart):
            raise ConfigError("--json, --errors and --restart are for an output that is a file: add -o OUTPUT")
        if output != "-" and Path(output).absolute() in (Path(source).absolute(), errors and errors.absolute()):
            raise ConfigError(f"{output} is the output, and nothing else: take another name")
        form = format_of("--from", read_as, source, None)
        if source == "-" and form == "parquet":
            raise ConfigError("Parquet has its index at its end, so it is read from a file and not from a pipe")
        if output == "-" and write_as in ("parquet", "arrow"):
            raise ConfigError(f"{write_as} is written to a file: add -o OUTPUT, or take --to arrow-stream")
        options = BatchOptions(
            model=model,
            version=version,
            input=source,
            output=output,
            errors=errors,
            read_as=form,
            write_as=format_of("--to", write_as, output, form if form in ("csv", "ndjson") else "ndjson"),
            chunk_rows=chunk_rows,
            concurrency=concurrency,
            timeout_s=timeout,
            restart=restart,
            choice=choice_of(keep or (), drop or ()),
        )
        # Whether there is a server at all is told at once; later it is waited for.
        served = begun_with(client_of(url, key_file), options)
        told = Told()
        patient = Retries(attempts_max=1_000_000, backoff_max_s=2.0, retry_after_max_s=60.0)
        client = client_of(url, key_file, timeout_s=timeout, retries=patient, repeatable=True, hook=told)
        outcome = run_batch(client, served, options, told)
        if as_json:
            typer.echo(json.dumps({"output": output, "model": model, **asdict(outcome)}))
        else:
            name = "standard output" if output == "-" else output
            failed = f", {outcome.failed:,} of them failed" if outcome.failed else ""
            kept = f", {outcome.kept:,} of them from before" if outcome.kept else ""
            sys.stderr.write(f"{name}: {outcome.rows:,} rows{failed}{kept}, {outcome.seconds:.1f} s\n")
    if outcome.failed:
        raise typer.Exit(1)
