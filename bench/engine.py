"""The figures that the batch engine must reach, measured and judged: with simulated devices, whose bound is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from bench.accept import Acceptance
from bench.capacity import Capacity, Trial, device_capacity, device_trials, find_capacity
from bench.gate.instructions import InstructionsOptions, instructions
from bench.gate.revisions import Product, build, find_revision
from bench.programs import micro_json
from bench.run import penstock_for, sample_open
from bench.scenario import Prepared, load_scenario, prepare
from bench.sections import Affine, Model, Scenario
from bench.server import PenstockTarget
from bench.spread import Spread, spread
from bench.verdicts import Verdict, at_least, at_most, note_of
from penstock.load.kinds import KindResult
from penstock.load.measurement import Measurement

__all__ = ["ENGINE_CHECKS", "Engine", "climb", "in_turns", "tuned_round_robin"]

CAPACITY_WANTED = {"slo30": 0.97, "slo10": 0.94}
OVERLOAD = 2.0
GOODPUT_WANTED = 0.95
REFUSED_MS_MAX = 1.0
MIXED_WANTED = 1.15
IN_TIME_WANTED = 0.99
DECISION_NS_MAX = 2000.0
ERROR_P95_MAX = 0.10
# What went before this engine. No loss means: within what a revision differs from itself from run to run.
BEFORE = "a50de2e"
NO_LOSS = 0.97
# Round-robin is tuned by how long a batch waits, as a part of its model's limit; a better setting is one that holds
# this much more.
DELAY_PARTS = (0.0, 0.05, 0.1, 0.2, 0.3)
BETTER = 1.02
ROUND_ROBIN_EXPECTED = (0.6, 1.2)
DEADLINE_EXPECTED = (0.9, 1.6)
TUNING_STEPS = 4


@dataclass(slots=True)
class Engine:
    """What the checks need, and the capacities that several of them are parts of."""

    acceptance: Acceptance
    capacities: dict[str, Capacity] = field(default_factory=dict)

    def prepared(self, name: str) -> Prepared:
        """Make a scenario's models and rows."""
        return self.acceptance.prepared(name)

    def capacity(self, name: str) -> Capacity:
        """Find the capacity of a scenario, once."""
        if name not in self.capacities:
            prepared = self.prepared(name)
            self.capacities[name] = device_capacity(penstock_for(prepared.scenario), prepared, self.acceptance.options)
        return self.capacities[name]

    def open_runs(self, name: str, rate: float) -> list[Measurement]:
        """Offer a rate to a scenario's server, after half of it for the server to learn from."""
        prepared, options = self.prepared(name), self.acceptance.options
        with penstock_for(prepared.scenario).serve(prepared.models, self.acceptance.folder / name) as running:
            corpus, plan = prepared.corpus(running.dialect), prepared.scenario.load
            sample_open(running, corpus, plan, rate / 2, options, seed=0)
            return [sample_open(running, corpus, plan, rate, options, seed)[0] for seed in range(1, options.rounds + 1)]


def check_capacity(engine: Engine) -> Iterator[Verdict]:
    """The capacity under a limit, over its bound."""
    for name, wanted in CAPACITY_WANTED.items():
        found = engine.capacity(name)
        bound = found.bound_rate or 1.0
        ratio = found.rate / bound
        simulated = f"; simulated {found.simulated_rate:,.0f}" if found.simulated_rate else ""
        got = f"{ratio:.3f}: {found.rate:,.0f} of {bound:,.0f} rows/s, {len(found.trials)} runs{simulated}"
        yield at_least(f"{name}: capacity over the bound", ratio, wanted, got, _note_of(found))


def check_overload(engine: Engine) -> Iterator[Verdict]:
    """Twice the capacity: what is answered in time, and how soon the rest is refused."""
    capacity = engine.capacity("slo30").rate
    runs = engine.open_runs("slo-overload", OVERLOAD * capacity)
    kinds = [run.kinds[0] for run in runs]
    goodput = spread(kind.in_time / run.seconds / capacity for kind, run in zip(kinds, runs, strict=True))
    note = note_of(runs)
    yield at_least("overload 2x: goodput over the capacity", goodput.median, GOODPUT_WANTED, str(goodput), note)
    late = spread(kind.late / max(1, kind.late + kind.in_time) for kind in kinds)
    yield at_most("overload 2x: late, of what is answered", late.median, 1 - IN_TIME_WANTED, f"{late.median:.4f}", note)
    yield from _refusals("overload 2x", kinds, note)


def check_mixed(engine: Engine) -> Iterator[Verdict]:
    """Models with limits far apart on one device, against the best that taking turns can be tuned to."""
    scenario = load_scenario("slo-mixed")
    turns, delay = tuned_round_robin(engine, scenario)
    prepared = engine.prepared("slo-mixed")
    ours = device_capacity(penstock_for(scenario), prepared, engine.acceptance.options, DEADLINE_EXPECTED)
    ratio = ours.rate / turns if turns else 0.0
    got = f"{ratio:.2f}: {ours.rate:,.0f} over {turns:,.0f} rows/s, in turns with a delay of {delay:g} of the limit"
    yield at_least("mixed limits: capacity over tuned round-robin's", ratio, MIXED_WANTED, got, _note_of(ours))


def check_priorities(engine: Engine) -> Iterator[Verdict]:
    """Interactive requests beside a flood of batch requests."""
    yield from _undisturbed(engine, "slo-priorities", "interactive")


def check_tenants(engine: Engine) -> Iterator[Verdict]:
    """A model that is asked steadily beside one that is asked in pulses."""
    yield from _undisturbed(engine, "slo-tenants", "steady")


def check_prediction(engine: Engine) -> Iterator[Verdict]:
    """How wrong the server is about what its batches take."""
    for name in CAPACITY_WANTED:
        what = f"{name}: error of predicted run times, p95"
        learned = engine.capacity(name).learned
        if not learned:
            yield Verdict(what, f"at most {ERROR_P95_MAX:g}", "the server does not tell", False)
        for cost in learned.values():
            got = f"{cost.error_p95:.3f}: {cost.fixed_us:,.0f} + {cost.row_us:.1f} us a row, {cost.samples:,} batches"
            yield at_most(what, cost.error_p95, ERROR_P95_MAX, got)


def check_decision(engine: Engine) -> Iterator[Verdict]:
    """What a decision costs, on lanes of up to eight models."""
    lines = {line["what"]: line["median"] for line in micro_json("scheduler_bench")["lines"] if line["limit"] > 0}
    decisions = {what: median for what, median in lines.items() if what.startswith(("decide", "shed"))}
    got = ", ".join(f"{what} {median:.0f}" for what, median in decisions.items())
    yield at_most("a decision, ns", max(decisions.values()), DECISION_NS_MAX, got)


def check_no_loss(engine: Engine) -> Iterator[Verdict]:
    """W1 and W2 in a closed loop, beside the revision before the engine."""
    tree = build(find_revision(BEFORE), Product.MODULES)
    targets = [PenstockTarget(), PenstockTarget("before", source=tree.server)]
    for name in ("w1", "w2"):
        for connections in (1, 64):
            found: dict[str, list[Measurement]] = {target.name: [] for target in targets}
            for target, _, measured in engine.acceptance.alternate(targets, engine.prepared(name), connections):
                found[target.name].append(measured)
            now, before = found["penstock"], found["before"]
            ratio = _ratio(now, before, lambda run: run.answered_rate)
            what = f"{name} json c={connections}: requests/s over those of {BEFORE}"
            yield at_least(what, ratio.median, NO_LOSS, str(ratio), note_of([*now, *before]))
    cheap = instructions(InstructionsOptions()) == 0
    yield Verdict("instructions by stage", "at most 3 % more", "within" if cheap else "see above", cheap)


ENGINE_CHECKS: Mapping[str, Callable[[Engine], Iterator[Verdict]]] = {
    "capacity": check_capacity,
    "overload": check_overload,
    "mixed": check_mixed,
    "priorities": check_priorities,
    "tenants": check_tenants,
    "prediction": check_prediction,
    "decision": check_decision,
    "no-loss": check_no_loss,
}


def tuned_round_robin(engine: Engine, scenario: Scenario) -> tuple[float, float]:
    """Find the highest rate that models in turn can be tuned to, and the delay (a part of each limit) it takes."""
    best, best_delay = 0.0, 0.0
    for delay in DELAY_PARTS:
        options = engine.acceptance.options
        tuned = in_turns(scenario, delay)
        prepared = prepare(tuned, options.folder / "models")
        limit = prepared.full_rate or 0.0
        with penstock_for(tuned).serve(prepared.models, options.folder / "round-robin") as running:
            try_rate = device_trials(running, prepared, options, [])
            rate = climb(try_rate, best, limit)
        if rate > best:
            best, best_delay = rate, delay
    return best, best_delay


def climb(try_rate: Callable[[float, int], Trial], best: float, limit: float) -> float:
    """Find a rate that holds and is better than the best so far; 0 when there is none."""
    low, high = (part * limit for part in ROUND_ROBIN_EXPECTED)
    if best == 0:
        return find_capacity(try_rate, high, low, TUNING_STEPS)[0]
    if not find_capacity(try_rate, best * BETTER, steps=0)[0]:
        return 0.0
    return max(best * BETTER, find_capacity(try_rate, max(high, best * 1.3), best * BETTER, TUNING_STEPS)[0])


def in_turns(scenario: Scenario, delay: float) -> Scenario:
    """Let the models take turns, without limits of their own: they only wait for fuller batches."""
    limits = {part.model: part.slo_ms or 0.0 for part in scenario.traffic}

    def serve(model: Model) -> dict[str, object]:
        assert isinstance(model, Affine)
        return {"slo_ms": None, "max_queue_delay_us": int(delay * limits[model.name] * 1e3)}

    return scenario.with_serve(serve, scheduling="round-robin")


def _undisturbed(engine: Engine, name: str, which: str) -> Iterator[Verdict]:
    """Judge one kind of a scenario's traffic by its own limit, however much of the rest is refused."""
    rate = engine.prepared(name).full_rate or 0.0
    runs = engine.open_runs(name, rate)
    kinds = [next(kind for kind in run.kinds if kind.label == which) for run in runs]
    in_time = spread(kind.goodput for kind in kinds)
    p99 = spread(kind.latency.p99 / 1e3 for kind in kinds if kind.latency)
    got = f"{in_time.median:.4f}, p99 {p99} ms of {kinds[0].slo_ms:g}"
    yield at_least(f"{name}: {which}, in time", in_time.median, IN_TIME_WANTED, got, note_of(runs))


def _refusals(what: str, kinds: list[KindResult], note: str) -> Iterator[Verdict]:
    refusals = [kind.refusal for kind in kinds if kind.refusal is not None]
    if not refusals:
        yield Verdict(f"{what}: refusals", "some", "none", False, note)
        return
    p50, p99, most = (spread(getattr(each, which) / 1e3 for each in refusals) for which in ("p50", "p99", "max"))
    got = f"{p99} (p50 {p50}, max {most})"
    yield at_most(f"{what}: p99 of a refusal from its sending, ms", p99.median, REFUSED_MS_MAX, got, note)
    told = min(kind.retry_after_share for kind in kinds)
    yield at_least(f"{what}: refusals with Retry-After", told, 1.0, f"{told:.4f}", note)


def _ratio(now: list[Measurement], before: list[Measurement], figure: Callable[[Measurement], float]) -> Spread:
    return spread(figure(own) / figure(other) for own, other in zip(now, before, strict=True))


def _note_of(found: Capacity) -> str:
    return note_of([found.measurement]) if found.measurement else ""
