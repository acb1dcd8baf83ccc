"""What the simulator says that a server of simulated devices can carry: the same decisions on a virtual clock."""

from __future__ import annotations

from bench.scenario import Prepared
from bench.sections import Scenario
from bench.theory import Lane, rotation
from penstock.native._batcher import SimulatedModel, Simulator

__all__ = ["simulated_capacity"]

KNOTS = tuple(1 << power for power in range(13))
JITTER = 0.005  # a simulated device is this exact, on a quiet machine
P99_DEVIATIONS = 2.33
FACTOR_MAX = 2.0
BLOCKS = 8  # of a batch, and of at most BLOCK_ROWS_MAX rows each
BLOCK_ROWS_MAX = 64
ARRIVALS = ("poisson", "bursty")


def simulated_capacity(prepared: Prepared) -> float | None:
    """Find the highest rate (rows/s in all) that keeps every limit; None for what the simulator does not know."""
    scenario, lanes = prepared.scenario, prepared.lanes
    if not lanes or scenario.load.arrivals not in ARRIVALS or any(part.arrivals for part in scenario.traffic):
        return None
    rate = rotation(lanes)
    settings = scenario.settings.values()
    models = [_model(scenario, lane, serve, rate) for lane, serve in zip(lanes, settings, strict=True)]
    policy = "round_robin" if scenario.server.get("scheduling") == "round-robin" else "engine"
    return rate * Simulator(models, policy=policy, jitter=JITTER).capacity_factor(factor_max=FACTOR_MAX)


def _model(scenario: Scenario, lane: Lane, serve: dict[str, int], rate: float) -> SimulatedModel:
    mean_ns = [(lane.a + lane.c * rows) * 1e9 for rows in KNOTS]
    model = SimulatedModel(mean_ns, [ns * (1 + P99_DEVIATIONS * JITTER) for ns in mean_ns], rate * lane.share)
    model.arrive(scenario.load.arrivals)
    model.limit(int(lane.slo_seconds * 1e9), objective="slo_ms" in serve)
    rows_max = serve.get("max_batch_size", 64)
    model.batch(rows_max, max(1, min(BLOCK_ROWS_MAX, rows_max // BLOCKS)))
    model.share(serve.get("weight", 100), serve.get("max_queue_delay_us", 0) * 1000)
    return model
