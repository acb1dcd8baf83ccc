"""When requests are sent: times fixed before the run, so that no slow reply can put off the next request."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ConfigError

__all__ = ["ARRIVALS_MAX", "Schedule", "bursty", "constant", "merge", "poisson", "pulsed", "read_trace", "replay"]

Times: TypeAlias = NDArray[np.int64]

# Each costs 60 bytes in the generator.
ARRIVALS_MAX = 50_000_000
# Batches of arrivals that are drawn at once: the expected number and this many standard deviations above it.
DEVIATIONS = 6


@dataclass(frozen=True, slots=True)
class Schedule:
    """Intended send times in ns since the start, ascending, within `seconds`.

    `kinds` says of which kind of traffic each is, where that does not follow from the kinds' shares.
    """

    due_ns: Times
    seconds: float
    kinds: NDArray[np.uint32] | None = None

    @property
    def rate(self) -> float:
        """Mean requests per second."""
        return len(self.due_ns) / self.seconds


def constant(rate: float, seconds: float) -> Schedule:
    """Send at equal distances."""
    count = _count(rate, seconds)
    return Schedule((np.arange(count) * (1e9 / rate)).astype(np.int64), seconds)


def poisson(rate: float, seconds: float, seed: int = 1) -> Schedule:
    """Send as many independent clients do: exponential gaps."""
    return Schedule(_within(_exponential(np.random.default_rng(seed), rate, seconds), seconds), seconds)


def bursty(rate: float, seconds: float, seed: int = 1, *, swing: float = 0.6, dwell_seconds: float = 0.2) -> Schedule:
    """Send as a two-state Markov-modulated Poisson process of mean `rate` does.

    It stays `dwell_seconds` on average in each state, at rate (1 - swing) and (1 + swing) times the mean.
    """
    if not 0 <= swing <= 1:
        raise ConfigError(f"the swing of bursty arrivals is a number from 0 to 1, not {swing}")
    generator = np.random.default_rng(seed)
    _count(rate, seconds)
    _count(rate * (1 + swing), seconds)
    pieces = []
    begin, high = 0.0, bool(generator.integers(2))
    while begin < seconds:
        dwell = min(generator.exponential(dwell_seconds), seconds - begin)
        state_rate = rate * (1 + swing if high else 1 - swing)
        arrivals = _exponential(generator, state_rate, dwell) if state_rate > 0 else np.empty(0)
        pieces.append(_within(arrivals, dwell) + int(begin * 1e9))
        begin, high = begin + dwell, not high
    return Schedule(np.concatenate(pieces), seconds)


def pulsed(rate: float, seconds: float, seed: int = 1, *, every_seconds: float = 2.0, part: float = 0.25) -> Schedule:
    """Send nothing, and then all at once: a Poisson process of mean `rate` in the last `part` of each period only."""
    if not 0 < part <= 1:
        raise ConfigError(f"a pulse is a part of its period above 0 and up to 1, not {part}")
    within = _within(_exponential(np.random.default_rng(seed), rate, seconds), seconds) / 1e9
    periods, moments = np.divmod(within, every_seconds)
    times = periods * every_seconds + every_seconds * (1 - part) + moments * part
    return Schedule(_within(times, seconds), seconds)


def merge(schedules: Sequence[Schedule]) -> Schedule:
    """Send what several schedules say, each for its own kind of traffic: the first for kind 0."""
    due_ns = np.concatenate([schedule.due_ns for schedule in schedules])
    kinds = np.repeat(np.arange(len(schedules), dtype=np.uint32), [len(schedule.due_ns) for schedule in schedules])
    order = np.argsort(due_ns, kind="stable")
    return Schedule(due_ns[order], max(schedule.seconds for schedule in schedules), kinds[order])


def replay(path: Path, rate: float | None = None, seconds: float | None = None) -> Schedule:
    """Send at the times of a trace file, stretched to a mean `rate` when one is given, cut after `seconds`.

    The schedule is as long as the trace when that is shorter.
    """
    times = np.sort(read_trace(path))
    times -= times[0]
    span = float(times[-1]) if times[-1] > 0 else 1.0
    if rate is not None:
        _count(rate, span)
        stretch = len(times) / span / rate
        times *= stretch
        span *= stretch
    seconds = span + 1e-9 if seconds is None else min(seconds, span + 1e-9)
    _count(len(times) / seconds, seconds)
    return Schedule(_within(times, seconds), seconds)


def read_trace(path: Path) -> NDArray[np.float64]:
    """Read arrival times in seconds: a number or an ISO 8601 time a line, or the column TIMESTAMP of a CSV file.

    A time without a zone is one of UTC, which has no hour that is missing or comes twice. ConfigError says which line
    is neither.
    """
    try:
        times = [_time(text, path, line) for line, text in _trace_lines(path)]
    except OSError as error:
        raise ConfigError(f"cannot read the trace {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the trace {path}: it is no text") from error
    except csv.Error as error:
        raise ConfigError(f"cannot read the trace {path}: {error}") from error
    if not times:
        raise ConfigError(f"the trace {path} holds no arrival")
    return np.array(times)


def _trace_lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        column = 0
        for line, fields in enumerate(csv.reader(file), 1):
            names = [field.strip().lower() for field in fields]
            if line == 1 and "timestamp" in names:
                column = names.index("timestamp")
            elif fields:
                yield line, fields[column] if column < len(fields) else ""


def _time(text: str, path: Path, line: int) -> float:
    try:
        if math.isfinite(number := float(text)):
            return number
    except ValueError:
        pass
    try:
        # Traces carry up to nine decimals; a datetime holds six.
        whole, dot, fraction = text.strip().partition(".")
        digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
        rest = fraction[len(digits) :]
        moment = datetime.fromisoformat(whole + rest)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return moment.timestamp() + (float(f"0.{digits}") if dot and digits else 0.0)
    except ValueError:
        raise ConfigError(f"{path}:{line}: {text!r} is neither a number of seconds nor an ISO 8601 time") from None


def _exponential(generator: np.random.Generator, rate: float, seconds: float) -> NDArray[np.float64]:
    """Draw arrivals that surely reach beyond `seconds`."""
    expected = _count(rate, seconds)
    times: NDArray[np.float64] = np.empty(0)
    while not len(times) or times[-1] < seconds:
        count = int(expected + DEVIATIONS * np.sqrt(expected)) + 16
        begin = times[-1] if len(times) else 0.0
        times = np.concatenate([times, begin + np.cumsum(generator.exponential(1 / rate, count))])
    return times


def _within(times: NDArray[np.float64], seconds: float) -> Times:
    return (times[times < seconds] * 1e9).astype(np.int64)


def _count(rate: float, seconds: float) -> int:
    if not (rate > 0 and seconds > 0):
        raise ConfigError(f"a load of {rate:g} requests/s for {seconds:g} s: the rate and the time must be positive")
    if rate * seconds > ARRIVALS_MAX:
        raise ConfigError(
            f"{rate:g} requests/s for {seconds:g} s are more than {ARRIVALS_MAX:,} requests: take less time"
        )
    return round(rate * seconds)
