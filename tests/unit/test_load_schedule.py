"""Arrivals: as many as asked for, spaced as their process says, and the same for the same seed."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import ConfigError
from penstock.load.schedule import ARRIVALS_MAX, Schedule, bursty, constant, merge, poisson, pulsed, read_trace, replay

Maker = Callable[..., Schedule]


@pytest.mark.parametrize("make", [poisson, bursty])
def test_random_arrivals_are_ascending_repeatable_and_within_the_time(make: Maker) -> None:
    first, again, other = make(500, 20, 7), make(500, 20, 7), make(500, 20, 8)
    assert np.array_equal(first.due_ns, again.due_ns)
    assert not np.array_equal(first.due_ns[:50], other.due_ns[:50])
    assert np.all(np.diff(first.due_ns) >= 0)
    assert first.due_ns[0] >= 0 and first.due_ns[-1] < 20e9
    # The mean of 10,000 arrivals; bursts vary more than single requests.
    assert first.rate == pytest.approx(500, rel=0.15)


def test_pulses_come_at_the_end_of_each_period() -> None:
    schedule = pulsed(1000, 10, 3, every_seconds=2, part=0.25)
    moments = schedule.due_ns / 1e9 % 2
    assert moments.min() >= 1.5 and np.all(np.diff(schedule.due_ns) >= 0)
    assert schedule.rate == pytest.approx(1000, rel=0.1)
    with pytest.raises(ConfigError, match="a pulse is a part of its period"):
        pulsed(1000, 10, part=1.5)


def test_merged_schedules_keep_their_kinds() -> None:
    parts = [constant(10, 2), poisson(50, 2, 3), constant(3, 1)]
    merged = merge(parts)
    assert merged.seconds == 2 and np.all(np.diff(merged.due_ns) >= 0)
    assert merged.kinds is not None
    for kind, part in enumerate(parts):
        assert np.array_equal(merged.due_ns[merged.kinds == kind], part.due_ns)


def test_constant_arrivals() -> None:
    schedule = constant(1000, 2)
    assert len(schedule.due_ns) == 2000
    assert np.all(np.diff(schedule.due_ns) == 1_000_000)


def spread_of_counts(schedule: Schedule, seconds: float) -> float:
    """Variance by mean of the arrivals in windows: 1 for Poisson, more for bursts."""
    windows = np.bincount((schedule.due_ns / (seconds * 1e9)).astype(int))
    return float(windows.var() / windows.mean())


def test_poisson_gaps_are_exponential() -> None:
    gaps = np.diff(poisson(2000, 30, 3).due_ns) / 1e9
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert np.mean(gaps > 1 / 2000) == pytest.approx(np.exp(-1), abs=0.01)
    assert spread_of_counts(poisson(2000, 30, 3), 0.05) == pytest.approx(1, abs=0.25)


def test_bursts_crowd() -> None:
    assert spread_of_counts(bursty(2000, 30, 3), 0.05) > 5
    assert spread_of_counts(bursty(2000, 30, 3, swing=0), 0.05) == pytest.approx(1, abs=0.25)


def test_replay_of_numbers_and_of_a_csv_column(tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.txt"
    numbers.write_text("10.5\n10\n\n12\n")
    assert replay(numbers).due_ns.tolist() == [0, 500_000_000, 2_000_000_000]
    table = tmp_path / "trace.csv"
    times = ["18:15:46.6805900", "18:15:46.7805900", "18:15:47.6805900"]
    table.write_text("\ufeffTIMESTAMP,Tokens\n" + "".join(f"2023-11-16 {time},374\n" for time in times))
    assert np.allclose(np.diff(read_trace(table)), [0.1, 0.9], atol=1e-6)


def test_replay_is_stretched_and_cut(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_text("\n".join(str(second) for second in range(101)))
    fast = replay(trace, rate=10.1)
    assert fast.rate == pytest.approx(10.1, rel=1e-6) and fast.seconds == pytest.approx(10)
    assert len(replay(trace, rate=10.1, seconds=5).due_ns) == 51 - 1


def test_a_trace_that_ends_early_ends_the_load(tmp_path: Path) -> None:
    """A rate over time in which nothing was due would be none."""
    trace = tmp_path / "trace"
    trace.write_text("0\n1\n2\n")
    assert replay(trace, seconds=60).seconds == pytest.approx(2)
    assert replay(trace, rate=3, seconds=60).rate == pytest.approx(3)


def test_a_trace_without_a_time_zone_jumps_at_no_change_of_the_clocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        trace = tmp_path / "trace"
        trace.write_text("2024-03-31 01:59:59.5\n2024-03-31 03:00:00.5\n")
        assert np.diff(read_trace(trace)) == pytest.approx(3601)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "holds no arrival"),
        (b"1\nsoon\n", "trace:2: 'soon' is neither"),
        (b"1\nnan\n", "trace:2: 'nan' is neither"),
        (b"inf\n", "trace:1: 'inf' is neither"),
        (b"\xff\xfe\x00\x01", "cannot read the trace .*: it is no text"),
        (b"1\n" + b"2" * 200_000, "cannot read the trace .*: field larger than"),
        (None, "cannot read"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(tmp_path: Path, text: bytes | None, says: str) -> None:
    trace = tmp_path / "trace"
    if text is not None:
        trace.write_bytes(text)
    with pytest.raises(ConfigError, match=says):
        replay(trace)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_trace_is_stretched_to_no_senseless_rate(tmp_path: Path, rate: float) -> None:
    trace = tmp_path / "trace"
    trace.write_text("0\n1\n")
    with pytest.raises(ConfigError, match="must be positive"):
        replay(trace, rate)


@pytest.mark.parametrize(("rate", "seconds"), [(-1, 1), (0, 1), (1, 0), (ARRIVALS_MAX, 2), (float("nan"), 1)])
def test_a_senseless_load_is_refused(rate: float, seconds: float) -> None:
    for make in (constant, poisson, bursty):
        with pytest.raises(ConfigError):
            make(rate, seconds)
