"""The figures that swaps must reach."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from bench.spread import spread
from bench.swaps.result import LEVEL_AFTER, SwapResult
from bench.swaps.seconds import Kind, median_p99, p99_ratio
from bench.verdicts import Verdict, at_most, note_of

__all__ = ["judge", "judge_answers", "judge_sizes"]

P99_RATIO_MAX = 1.3
GROWTH_MAX = 1.05
ROLLBACK_SECONDS_MAX = 1.0
MIB = 1 << 20


def judge(result: SwapResult) -> Iterator[Verdict]:
    """Judge everything."""
    yield from judge_answers(result)
    yield from judge_sizes(result)
    yield _latency(result)
    if result.rollback_seconds:
        seen = spread(second * 1e3 for second in result.rollback_seconds)
        got = f"{seen} ms, of {len(result.rollback_seconds)}"
        yield at_most("rollback to its first answer, s at most", seen.most / 1e3, ROLLBACK_SECONDS_MAX, got)


def judge_answers(result: SwapResult) -> Iterator[Verdict]:
    """Judge that every request was answered, by one version."""
    what = f"{result.form}: {result.swaps:,} swaps at {result.rate:,.0f}/s"
    failed = sum(result.errors.values())
    errors = f": {dict(result.errors)}" if failed else ""
    yield Verdict(f"{what}: failed requests", "0", f"{failed} of {result.requests:,}{errors}", failed == 0)
    mixed = result.wrong + result.outdated
    problems = "".join(f"; {problem}" for problem in result.problems[:3])
    got = (
        f"{result.wrong} wrong, {result.outdated} of a version that was swapped out before, {result.checked:,} checked"
    )
    yield Verdict(f"{what}: mixed answers", "0", f"{got} one by one{problems}", mixed == 0 and result.checked > 0)


def judge_sizes(result: SwapResult) -> Iterator[Verdict]:
    """Judge that the main process did not grow. In a short run only what is counted: memory has no level yet."""
    start, level, end = result.start, result.level, result.end
    if start is None or end is None:
        yield Verdict("main process", "flat", "not looked at", False)
        return
    if level is not None:
        sizes = f"{level.own / MIB:.1f} MiB after {LEVEL_AFTER} swaps, {end.own / MIB:.1f} after the last"
        yield at_most("main process: bytes over their level", end.own / level.own, GROWTH_MAX, sizes)
    yield at_most("main process: mappings of rings", end.rings, start.rings, f"{end.rings}, {start.rings} before")
    counts = f"{end.descriptors}, {start.descriptors} before"
    yield at_most("main process: descriptors", end.descriptors, start.descriptors, counts)


def _latency(result: SwapResult) -> Verdict:
    """Compare seconds with a swap with the others of the same load; the median over the loads."""
    what = "p99 in seconds with a swap over the steady one"
    note = note_of([each.measurement for each in result.rounds])
    ratios = [ratio for each in result.rounds if (ratio := p99_ratio(each.seconds)) is not None]
    if not ratios:
        return Verdict(what, f"at most {P99_RATIO_MAX:g}", "no steady second beside one with a swap", False, note)
    seconds = [second for each in result.rounds for second in each.seconds]
    steady, swap = (median_p99(seconds, kind) or 0.0 for kind in (Kind.STEADY, Kind.SWAP))
    counts = [sum(second.kind is kind for second in seconds) for kind in (Kind.STEADY, Kind.SWAP)]
    got = f"{spread(ratios)}: medians {swap / 1e3:.2f} ms of {counts[1]} s, {steady / 1e3:.2f} ms of {counts[0]} s"
    return at_most(what, statistics.median(ratios), P99_RATIO_MAX, got, note)
