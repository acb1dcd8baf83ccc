"""What /metrics said at one moment, and what happened between two."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Interval", "Labels", "Sample", "parse", "quantile_of"]

Labels = Mapping[str, str]
_Series = dict[frozenset[tuple[str, str]], float]

_START = "process_start_time_seconds"
# A server with many models tells thousands of lines; only these are looked at.
_WANTED = re.compile(
    r"(?:penstock_(?:request_seconds|queue_seconds|run_seconds|batch_size)_(?:bucket|sum|count)"
    r"|penstock_(?:rows|rows_refused|rows_shed|deadline_exceeded|rows_cancelled|batches|batches_sealed)_total"
    r"|penstock_(?:cache_hits|cache_misses|cache_coalesced|worker_restarts|responses)_total"
    r"|penstock_(?:queue_rows|workers|model_ready|ready|draining|connections_open|build_info)"
    r"|penstock_(?:worker_cpu_seconds_total|worker_resident_memory_bytes)"
    r"|penstock_gpu_\w+"
    r"|process_(?:cpu_seconds_total|resident_memory_bytes|start_time_seconds))[{ ]"
)


@dataclass(frozen=True, slots=True)
class Sample:
    """The values of one moment. `at` is in seconds of a clock that only goes on."""

    at: float
    values: Mapping[str, _Series]

    def series(self, name: str) -> Iterator[tuple[Labels, float]]:
        """Yield the labels and values of a metric."""
        for labels, value in self.values.get(name, {}).items():
            yield dict(labels), value

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sum over what has these labels; None where there is nothing."""
        wanted = labels.items()
        found = [value for have, value in self.values.get(name, {}).items() if wanted <= have]
        return sum(found) if found else None

    def split(self, *names: str) -> dict[tuple[str, ...], Sample]:
        """Return the samples of each combination of these labels' values, of the series that have them all."""
        parts: dict[tuple[str, ...], dict[str, _Series]] = {}
        for name, series in self.values.items():
            for labels, value in series.items():
                have = dict(labels)
                if all(label in have for label in names):
                    part = parts.setdefault(tuple(have[label] for label in names), {})
                    part.setdefault(name, {})[labels] = value
        return {key: Sample(self.at, part) for key, part in parts.items()}


def parse(text: str, at: float) -> Sample:
    """Read what Prometheus reads; a line that means nothing is passed over."""
    lines = [line for line in text.splitlines() if _WANTED.match(line)]
    values: dict[str, _Series] = {}
    try:
        _read("\n".join(lines), values)
    except ValueError:
        values = {}
        for line in lines:
            try:
                _read(line, values)
            except ValueError:
                continue
    return Sample(at, values)


def _read(text: str, values: dict[str, _Series]) -> None:
    for family in text_string_to_metric_families(text + "\n"):
        for sample in family.samples:
            values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value


@dataclass(frozen=True, slots=True)
class Interval:
    """The time between two samples; without the earlier one nothing is known of what happened.

    A counter that has fallen began anew: what it counts now came since then. So did all of them in a server that has
    been started again, also those that are above what they were.
    """

    before: Sample | None
    now: Sample
    anew: bool = False

    @classmethod
    def between(cls, before: Sample | None, now: Sample) -> Interval:
        """Return the interval, and find out whether the server was started in it."""
        anew = before is not None and before.value(_START) != now.value(_START)
        return cls(before, now, anew)

    def split(self, *names: str) -> dict[tuple[str, ...], Interval]:
        """Return the interval of each combination of these labels' values that is there now."""
        before = None if self.before is None else self.before.split(*names)
        nothing = None if self.before is None else Sample(self.before.at, {})
        return {
            key: Interval(nothing if before is None else before.get(key, nothing), sample, self.anew)
            for key, sample in self.now.split(*names).items()
        }

    @property
    def seconds(self) -> float:
        """How long it was; 0 without the earlier sample."""
        return 0.0 if self.before is None else self.now.at - self.before.at

    @property
    def is_known(self) -> bool:
        """Whether anything can be said of what happened."""
        return self.before is not None and self.seconds > 0

    def increase(self, name: str, **labels: str) -> float | None:
        """Return by how much the counters with these labels have risen, together; None when nothing is known."""
        if not self.is_known:
            return None
        wanted = labels.items()
        return sum(
            self._rise(name, have, value) for have, value in self.now.values.get(name, {}).items() if wanted <= have
        )

    def rate(self, name: str, **labels: str) -> float | None:
        """Return the increase for each second."""
        increase = self.increase(name, **labels)
        return None if increase is None else increase / self.seconds

    def rates_by(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """Return the rates by the values of a label; those that are not 0."""
        if not self.is_known:
            return {}
        found: dict[str, float] = {}
        for have, value in self.now.values.get(name, {}).items():
            if labels.items() <= have:
                key = dict(have).get(label, "")
                found[key] = found.get(key, 0.0) + self._rise(name, have, value) / self.seconds
        return {key: rate for key, rate in found.items() if rate > 0}

    def mean(self, histogram: str, **labels: str) -> float | None:
        """Return the mean of what a histogram has got; None when it got nothing."""
        total, count = (self.increase(f"{histogram}_{part}", **labels) for part in ("sum", "count"))
        return total / count if total is not None and count else None

    def quantile(self, histogram: str, share: float, **labels: str) -> float | None:
        """Return a quantile of what a histogram has got; None when it got nothing."""
        if not self.is_known:
            return None
        name, wanted = f"{histogram}_bucket", labels.items()
        counts: dict[float, float] = {}
        for have, value in self.now.values.get(name, {}).items():
            if wanted <= have:
                bound = float(dict(have)["le"])
                counts[bound] = counts.get(bound, 0.0) + self._rise(name, have, value)
        return quantile_of(sorted(counts.items()), share)

    def _rise(self, name: str, labels: frozenset[tuple[str, str]], value: float) -> float:
        if self.before is None or self.anew:
            return value
        # What was not there before began at 0.
        earlier = self.before.values.get(name, {}).get(labels, 0.0)
        return value if value < earlier else value - earlier


def quantile_of(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Return a quantile from cumulative counts by upper bound, ascending, the last bound infinite.

    As Prometheus' histogram_quantile() has it: even within a bucket; the highest finite bound for what is above it.
    None when there is nothing.
    """
    if not buckets or not math.isinf(buckets[-1][0]):
        return None
    # Counts of neighbours may be read at slightly different moments; they never fall.
    counts = [max(count for _, count in buckets[: at + 1]) for at in range(len(buckets))]
    if counts[-1] <= 0:
        return None
    rank = share * counts[-1]
    at = next(place for place, count in enumerate(counts) if count >= rank)
    if at == len(buckets) - 1:
        return buckets[-2][0] if len(buckets) > 1 else None
    low, below = (buckets[at - 1][0], counts[at - 1]) if at else (0.0, 0.0)
    high, inside = buckets[at][0], counts[at] - below
    return high if inside <= 0 else low + (high - low) * (rank - below) / inside
