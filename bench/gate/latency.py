"""`bench gate BASE HEAD`: build two revisions, run them in turn, judge the p99."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.gate.revisions import Product, RevisionError, Tree, build, find_revision
from bench.gate.runs import Pair, Protocol, Side, run_pairs
from bench.gate.statistics import Judgement, Verdict

__all__ = ["GateOptions", "GateResult", "gate"]

EXIT_CODES = {Verdict.PASS: 0, Verdict.WARN: 0, Verdict.FAIL: 1, Verdict.TOO_NOISY: 2}


@dataclass(frozen=True, slots=True)
class GateResult:
    """Everything that was measured, for the record."""

    base: str
    head: str
    judgement: Judgement
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How to measure. `measure` starts the server of a tree afresh, loads it, and gives the p99 in microseconds.

    It repeats a run in which the generator was late: that tells of other work on the machine and nothing of the server,
    so it favours no revision, and it is most of the noise (recorded: a spread of 7 % with such runs, 2 % without).
    """

    measure: Callable[[Tree], float]
    protocol: Protocol = field(default_factory=Protocol)
    keep: Callable[[GateResult], None] = lambda result: None


def gate(base: str, head: str, options: GateOptions) -> int:
    """Judge `head` against `base`; 0: not slower (or only perhaps), 1: slower, 2: not judged."""
    try:
        revisions = {Side.BASE: find_revision(base), Side.HEAD: find_revision(head)}
        for side, revision in revisions.items():
            print(f"{side}: {revision}", flush=True)
        trees = {side: build(revision, Product.MODULES) for side, revision in revisions.items()}
    except RevisionError as error:
        print(error, file=sys.stderr)
        return EXIT_CODES[Verdict.TOO_NOISY]
    pairs: list[Pair] = []
    runs = run_pairs(lambda side: options.measure(trees[side]), options.protocol)
    while True:
        try:
            pair = next(runs)
        except StopIteration as stopped:
            judgement: Judgement = stopped.value
            break
        pairs.append(pair)
        print(f"{len(pairs):3d} {pair}", flush=True)
    print(judgement)
    options.keep(GateResult(str(revisions[Side.BASE]), str(revisions[Side.HEAD]), judgement, tuple(pairs)))
    return EXIT_CODES[judgement.verdict]
