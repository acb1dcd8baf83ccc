"""The arguments of `penstock simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("simulate")
def _simulate(
    fixed_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that every batch takes.", show_default=False)
    ] = None,
    per_row_us: Annotated[
        float | None, typer.Option(help="Microseconds that each of its rows adds.", show_default=False)
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS:MS,...|FILE", help="Or what batches of some sizes take, also from JSON.", show_default=False
        ),
    ] = None,
    rate: Annotated[float, typer.Option(help="Rows per second that arrive.")] = 0.0,
    slo_ms: Annotated[
        float | None, typer.Option(help="99 % should be answered within this.", show_default=False)
    ] = None,
    arrivals: Annotated[str, typer.Option(help="poisson, bursty or gamma.")] = "poisson",
    max_batch_size: Annotated[int, typer.Option(help="Most rows in a batch.")] = 64,
    max_queue_delay_us: Annotated[float, typer.Option(min=0, help="Without --slo-ms: wait for a fuller batch.")] = 0.0,
    models: Annotated[
        Path | None, typer.Option(help="Several models on one device, in TOML.", show_default=False)
    ] = None,
    instances: Annotated[int, typer.Option(min=1, max=1024, help="Workers behind one queue.")] = 1,
    scheduling: Annotated[str, typer.Option(metavar="RULE", help="deadline or round-robin.")] = "deadline",
    jitter: Annotated[float, typer.Option(min=0, max=1, help="Spread of run times, relative.")] = 0.015,
    rows: Annotated[int, typer.Option(min=1_000, max=100_000_000, help="Simulated arrivals of each run.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and run times.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency over throughput, .png or .svg.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Size a deployment from what its batches cost: capacity, latency and instances needed. Nothing is served.

    Exits with 0 when the given rate is carried and the limits hold, 1 when not, 2 for wrong usage.
    """
    with told_plainly(debug):
        from penstock.cli.simulate.curve import read_curve
        from penstock.cli.simulate.running import run_simulate
        from penstock.cli.simulate.settings import SimulatedSettings, read_models
        from penstock.cli.simulate.sizing import SimulateOptions, scheduling_of

        alone = SimulatedSettings(
            rate=rate,
            slo_ms=slo_ms,
            fixed_ms=fixed_ms,
            per_row_us=per_row_us,
            curve=read_curve(curve) if curve is not None else None,
            arrivals=arrivals,
            max_batch_size=max_batch_size,
            max_queue_delay_us=max_queue_delay_us,
        )
        options = SimulateOptions(
            models=[alone] if models is None else read_models(models, alone),
            instances=instances,
            scheduling=scheduling_of(scheduling),
            jitter=jitter,
            rows=rows,
            seed=seed,
            as_json=json,
            plot=plot,
        )
        status = run_simulate(options)
    if status:
        raise typer.Exit(status)
