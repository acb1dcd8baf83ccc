"""`penstock simulate`: what a deployment can carry, from what its batches cost; nothing is served."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.cli.simulate.settings import SimulatedSettings, checked
from penstock.cli.simulate.sizing import (
    INSTANCES_MAX,
    SimulateOptions,
    capacity_factor,
    check_length,
    growing,
    instances_needed,
    kept,
    load_of,
    simulator_for,
)
from penstock.core.errors import ConfigError
from penstock.native._batcher import SimulationFigures

__all__ = ["run_simulate"]

# Of the capacity, in a plot.
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)


def run_simulate(options: SimulateOptions) -> int:
    """Simulate and print; 0 when the rates are carried and every limit is kept, else 1."""
    if not math.isfinite(options.jitter):
        raise ConfigError(f"--jitter is from 0 to 1, not {options.jitter:g}")
    if options.plot is not None:
        _check_plot(options.plot)
    models = [checked(model) for model in options.models]
    check_length(options, models)
    figures = simulator_for(options, models, options.instances).run()
    grows = growing(options, models, options.instances, figures)
    factor = capacity_factor(options, models)
    document = _document(options, models, figures, grows, factor)
    if options.as_json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print(document)
    if options.plot is not None:
        _plot(options, models, factor, options.plot)
    return 0 if all(model["kept"] is not False and not model["queue_grows"] for model in document["models"]) else 1


def _document(
    options: SimulateOptions,
    models: Sequence[SimulatedSettings],
    figures: SimulationFigures,
    grows: Sequence[bool],
    factor: float,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "instances": options.instances,
        "scheduling": options.scheduling.value,
        "busy": figures.busy,
        "capacity_factor": factor,
        "instances_needed": instances_needed(options, models),
        "instances_busy": load_of(models),
        "models": [],
    }
    for settings, model, queue_grows in zip(models, figures.models, grows, strict=True):
        p50, p99, p999, longest = (ns / 1e6 for ns in model.latency_ns)
        document["models"].append(
            {
                "name": settings.name,
                "rate": settings.rate,
                "slo_ms": settings.slo_ms,
                "capacity": settings.rate * factor,
                "goodput": model.goodput,
                "latency_ms": {"p50": p50, "p99": p99, "p99_9": p999, "max": longest},
                "batch_rows_mean": model.rows_run / model.batches if model.batches else 0.0,
                "late": model.late / model.rows if model.rows else 0.0,
                "shed": model.shed / model.rows if model.rows else 0.0,
                "refused": model.refused / model.rows if model.rows else 0.0,
                "kept": None if settings.slo_ms is None else kept(settings, model),
                "queue_grows": queue_grows,
            }
        )
    return document


def _print(document: Mapping[str, Any]) -> None:
    write = sys.stdout.write
    for model in document["models"]:
        latency = model["latency_ms"]
        limit = "no limit" if model["slo_ms"] is None else f"limit {model['slo_ms']:g} ms"
        write(f"{model['name']} at {model['rate']:,.0f} rows/s, {limit}\n")
        write(
            f"  latency     p50 {latency['p50']:.2f}  p99 {latency['p99']:.2f}  p99.9 {latency['p99_9']:.2f}  "
            f"max {latency['max']:.2f} ms\n"
        )
        write(f"  batches     {model['batch_rows_mean']:.1f} rows on average\n")
        write(f"  not in time {model['late']:.2%} late, {model['shed']:.2%} shed, {model['refused']:.2%} refused\n")
        share = "at most, without a limit" if model["slo_ms"] is None else "with 99 % in time"
        write(f"  capacity    {model['capacity']:,.0f} rows/s {share}\n")
        if model["queue_grows"]:
            write(
                "  overload    its queue grows without end: these latencies are of this run, a longer one has longer\n"
            )
    count = document["instances"]
    write(f"{count} instance{'s' if count > 1 else ''}, busy for {document['busy']:.0%} of the time\n")
    write(_needed(document))


def _needed(document: Mapping[str, Any]) -> str:
    needed = document["instances_needed"]
    if needed is not None:
        return f"{needed} instance{'s' if needed > 1 else ''} needed for these rates\n"
    busy = document["instances_busy"]
    if busy >= INSTANCES_MAX:
        return f"over {INSTANCES_MAX} instances needed for these rates: they keep {busy:,.0f} busy at least\n"
    return f"not even {INSTANCES_MAX} instances keep every limit at these rates: a lone batch takes too long\n"


def _check_plot(path: Path) -> None:
    """Refuse before the simulation what would fail after it."""
    if path.suffix not in {".png", ".svg"}:
        raise ConfigError(f"--plot {path}: a plot is a .png or an .svg file")
    if not path.parent.is_dir():
        raise ConfigError(f"--plot {path} cannot be written: there is no folder {path.parent}")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--plot {path} cannot be written: it is a folder, or you may not write there")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("--plot needs matplotlib: pip install matplotlib") from error


def _plot(options: SimulateOptions, models: Sequence[SimulatedSettings], factor: float, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    simulator = simulator_for(options, models, options.instances)
    runs = [simulator.run(factor * load) for load in LOADS]
    for index, model in enumerate(models):
        rates = [model.rate * factor * load for load in LOADS]
        for quantile, (name, style) in enumerate([("p50", ":"), ("p99", "-")]):
            latencies = [run.models[index].latency_ns[quantile] / 1e6 for run in runs]
            axes.plot(rates, latencies, style, color=f"C{index}", label=f"{model.name} {name}")
        if model.slo_ms is not None:
            axes.axhline(model.slo_ms, color=f"C{index}", linewidth=0.8, alpha=0.5)
    axes.set_xlabel("rows per second")
    axes.set_ylabel("latency of what is answered, ms")
    axes.set_yscale("log")
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise ConfigError(f"--plot {path} cannot be written: {error.strerror}") from error
