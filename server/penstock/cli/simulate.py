"""`penstock simulate`: what a deployment can carry, from what its batches cost; nothing is served."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.cli.simulated import KNOTS, SimulatedSettings, checked
from penstock.core.errors import ConfigError
from penstock.native._batcher import ModelFigures, SimulatedModel, SimulationFigures, Simulator

__all__ = ["SimulateOptions", "run_simulate"]

# 99th percentile of a normal distribution, in standard deviations.
P99_DEVIATIONS = 2.33
PERCENTILE = 0.99
POLICIES = ("engine", "round_robin")
INSTANCES_MAX = 1024
BLOCK_ROWS_MAX = 64
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1)


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What was asked for on the command line."""

    models: Sequence[SimulatedSettings]
    instances: int
    policy: str
    jitter: float
    rows: int
    seed: int
    as_json: bool
    plot: Path | None


def run_simulate(options: SimulateOptions) -> int:
    """Simulate and print; 0 when every model with a limit keeps it at the given rate, else 1."""
    if options.policy not in POLICIES:
        raise ConfigError(f"the policy {options.policy!r} is not one of {', '.join(POLICIES)}")
    if options.plot is not None:
        _require_matplotlib(options.plot)
    models = [checked(model) for model in options.models]
    limited = any(model.slo_ms is not None for model in models)
    figures = _simulator(options, models, options.instances).run()
    factor = _capacity_factor(options, models) if limited else None
    needed = _instances_needed(options, models) if limited else None
    document = _document(options, models, figures, factor, needed)
    if options.as_json:
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print(document)
    if options.plot is not None:
        _plot(options, models, factor or 1.0, options.plot)
    return 0 if all(model["kept"] is not False for model in document["models"]) else 1


def _simulator(options: SimulateOptions, models: Sequence[SimulatedSettings], instances: int) -> Simulator:
    simulated = []
    for settings in models:
        assert settings.curve is not None
        mean_ns = [settings.curve[rows] * 1e6 for rows in KNOTS]
        p99_ns = [ns * (1 + P99_DEVIATIONS * options.jitter) for ns in mean_ns]
        model = SimulatedModel(mean_ns, p99_ns, settings.rate)
        model.arrive(settings.arrivals)
        model.limit(int((settings.slo_ms or 0) * 1e6))
        block_rows = min(max(settings.max_batch_size // 8, 1), BLOCK_ROWS_MAX)
        model.batch(settings.max_batch_size, block_rows, list(settings.batch_sizes))
        model.share(settings.weight, int(settings.max_queue_delay_us * 1000))
        simulated.append(model)
    return Simulator(
        simulated,
        instances=instances,
        policy=options.policy,
        jitter=options.jitter,
        rows=options.rows,
        seed=options.seed,
    )


def _limit(options: SimulateOptions, models: Sequence[SimulatedSettings]) -> float:
    """Bound the factor on all rates by what the devices could run in batches of any size."""
    work_ms = 0.0
    for model in models:
        assert model.curve is not None
        work_ms += model.rate * min(model.curve[rows] / rows for rows in KNOTS)
    return 1000 * options.instances / work_ms


def _capacity_factor(options: SimulateOptions, models: Sequence[SimulatedSettings]) -> float:
    highest = 1.05 * _limit(options, models)
    return _simulator(options, models, options.instances).capacity_factor(1 - PERCENTILE, highest, highest / 500)


def _instances_needed(options: SimulateOptions, models: Sequence[SimulatedSettings]) -> int | None:
    """Find the fewest instances that keep every limit at the given rates; None when no number does."""

    def keep(instances: int) -> bool:
        figures = _simulator(options, models, instances).run()
        return all(_violations(model) <= 1 - PERCENTILE for model in figures.models)

    enough = 1
    while not keep(enough):
        enough *= 2
        if enough > INSTANCES_MAX:
            return None
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if keep(middle):
            enough = middle
        else:
            too_few = middle
    return enough


def _violations(figures: ModelFigures) -> float:
    return 1 - figures.in_time / figures.rows if figures.rows else 0.0


def _document(
    options: SimulateOptions,
    models: Sequence[SimulatedSettings],
    figures: SimulationFigures,
    factor: float | None,
    needed: int | None,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "instances": options.instances,
        "policy": options.policy,
        "busy": figures.busy,
        "capacity_factor": factor,
        "instances_needed": needed,
        "models": [],
    }
    for settings, model in zip(models, figures.models, strict=True):
        p50, p99, p999, longest = (ns / 1e6 for ns in model.latency_ns)
        document["models"].append(
            {
                "name": settings.name,
                "rate": settings.rate,
                "slo_ms": settings.slo_ms,
                "capacity": settings.rate * factor if factor is not None else None,
                "goodput": model.goodput,
                "latency_ms": {"p50": p50, "p99": p99, "p99_9": p999, "max": longest},
                "batch_rows_mean": model.rows_run / model.batches if model.batches else 0.0,
                "late": model.late / model.rows if model.rows else 0.0,
                "shed": model.shed / model.rows if model.rows else 0.0,
                "refused": model.refused / model.rows if model.rows else 0.0,
                "kept": None if settings.slo_ms is None else _violations(model) <= 1 - PERCENTILE,
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
        if model["capacity"] is not None:
            write(f"  capacity    {model['capacity']:,.0f} rows/s with 99 % in time\n")
    count = document["instances"]
    write(f"{count} instance{'s' if count > 1 else ''}, busy for {document['busy']:.0%} of the time\n")
    if document["capacity_factor"] is not None:
        needed = document["instances_needed"]
        if needed is None:
            write(f"not even {INSTANCES_MAX} instances keep every limit at these rates: a lone batch takes too long\n")
        else:
            write(f"{needed} instance{'s' if needed > 1 else ''} needed for these rates\n")


def _require_matplotlib(path: Path) -> None:
    if path.suffix not in {".png", ".svg"}:
        raise ConfigError(f"--plot {path}: a plot is a .png or an .svg file")
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("--plot needs matplotlib: pip install matplotlib") from error


def _plot(options: SimulateOptions, models: Sequence[SimulatedSettings], factor: float, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    simulator = _simulator(options, models, options.instances)
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
