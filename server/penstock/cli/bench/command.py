"""The arguments of `penstock bench`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.completing import model_names
from penstock.cli.options import KeyFile, Url
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("bench")
def _bench(
    model: Annotated[str, typer.Option(help="The model to ask.", autocompletion=model_names)],
    address: Annotated[
        str | None,
        typer.Argument(metavar="[URL]", help="http://HOST:PORT or unix:/PATH [PENSTOCK_URL].", show_default=False),
    ] = None,
    url: Url = None,
    key_file: KeyFile = None,
    version: Annotated[str | None, typer.Option(help="Its version [the latest].", show_default=False)] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Requests per second [as many as are answered].", show_default=False),
    ] = None,
    duration: Annotated[float, typer.Option(min=0.1, max=86_400, help="Measured seconds.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, max=3_600, help="Seconds before them that do not count.")] = 2.0,
    slo_p99_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Fail unless 99 % are answered within this.", show_default=False)
    ] = None,
    encoding: Annotated[str, typer.Option(help="json, msgpack or raw.")] = "json",
    arrivals: Annotated[str, typer.Option(help="poisson, constant or bursty.")] = "poisson",
    trace: Annotated[
        Path | None, typer.Option(help="Send at the times of this file instead.", show_default=False)
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=10_000, help="Keep-alive connections.")] = 64,
    depth: Annotated[int, typer.Option(min=1, max=1024, help="Requests in flight on each connection.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the generator.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Different rows to send.")] = 1024,
    timeout: Annotated[float, typer.Option(min=0.001, max=3_600, help="Seconds to wait for a reply.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of rows and arrivals.")] = 1,
    pid: Annotated[
        int | None, typer.Option(help="The server's process, to count what it costs.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Put a served model under load, with rows made from its schema.

    Exits with 0 when all is well, 1 when over 1 in 100 requests failed or the limit is not proven, 2 for wrong usage,
    3 when no server answers, or the generator fell behind or the server silent, so that the figures mean nothing.
    """
    with told_plainly(debug):
        from penstock.cli.asking import key_of
        from penstock.cli.bench.running import BenchOptions, run_bench

        options = BenchOptions(
            url=address or url or os.environ.get("PENSTOCK_URL") or "http://127.0.0.1:8000",
            key=key_of(key_file),
            model=model,
            version=version,
            rate=rate,
            duration=duration,
            warm_up=warm_up,
            slo_p99_ms=slo_p99_ms,
            encoding=encoding,
            arrivals=arrivals,
            trace=trace,
            connections=connections,
            depth=depth,
            threads=threads,
            rows=rows,
            timeout=timeout,
            seed=seed,
            pid=pid,
            as_json=json,
        )
        status = run_bench(options)
    if status:
        raise typer.Exit(status)
