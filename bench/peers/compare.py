"""Rivals side by side: every server in turn, in as many rounds as wanted, under the same loads."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from bench.nginx import Nginx
from bench.results import Results
from bench.run import Phase, RunOptions, Sample, sample_closed, sample_open
from bench.scenario import LoadPlan, Prepared
from bench.targets import Target
from penstock.core.errors import PenstockError
from penstock.load.measurement import Measurement
from penstock.load.recording import WrongAnswerError

__all__ = ["compare", "planned_seconds"]

# In a closed loop: one client, many, very many. In an open one: at this part of the server's own capacity.
CONNECTIONS = (64, 1, 256)
OPEN_LOAD = 0.5
# Some rivals take seconds of load to reach their speed; none is measured before.
WARM_UP_SECONDS = 4.0


def planned_seconds(targets: int, seconds: float, rounds: int) -> float:
    """Return how long a comparison takes, starts and stops left out."""
    return targets * rounds * ((len(CONNECTIONS) + 1) * seconds * 1.2 + WARM_UP_SECONDS)


def compare(targets: Sequence[Target], prepared: Prepared, options: RunOptions, results: Results) -> None:
    """Measure all; one that does not start, or answers wrongly, is reported as not run and left out from then on."""
    failed: set[str] = set()
    for number in range(options.rounds):
        for target in targets:
            if target.name in failed:
                continue
            try:
                results.samples += _round(target, prepared, options, number)
            except (RuntimeError, OSError, PenstockError, WrongAnswerError) as error:
                failed.add(target.name)
                results.not_run[f"{target.name}, {prepared.scenario.name}"] = str(error).strip()[-600:]
                print(f"{target.name}: {error}", file=sys.stderr, flush=True)


def _round(target: Target, prepared: Prepared, options: RunOptions, number: int) -> Iterator[Sample]:
    with target.serve(prepared.models, options.folder / target.name) as running:
        corpus = prepared.corpus(running.dialect, known=not isinstance(running, Nginx))

        def sample(phase: Phase, found: tuple[Measurement, Mapping[str, float]]) -> Sample:
            return Sample(prepared.scenario.name, target.name, running.dialect.name, phase, number, *found)

        sample_closed(running, corpus, LoadPlan(), replace(options, seconds=WARM_UP_SECONDS))
        capacity = 0.0
        for connections in CONNECTIONS:
            closed = sample_closed(running, corpus, LoadPlan(connections=connections), options)
            capacity = max(capacity, closed[0].answered_rate)
            yield sample(Phase("closed", connections), closed)
        rate = capacity * OPEN_LOAD
        opened = sample_open(running, corpus, LoadPlan(), rate, options, number + 1)
        yield sample(Phase("open", opened[0].connections, OPEN_LOAD), opened)
