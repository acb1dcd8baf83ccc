"""The order of batches in flight, on a clock of the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.worker.devices.flight import Flight, Flying

LEAD_S = 0.05


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def learned(clock: Clock, takes_s: float, depth: int = 3) -> Flight[str]:
    """Return a flight that knows what a batch of the kind "a" takes."""
    flight: Flight[str] = Flight(depth, LEAD_S, clock)
    batch = flight.start("first", "a")
    clock.now += takes_s
    flight.end(batch)
    return flight


def test_the_next_batch_is_taken_just_before_the_device_idles() -> None:
    clock = Clock()
    flight = learned(clock, 1.0)
    assert flight.may_take()
    flight.start("x", "a")
    assert not flight.may_take()
    assert flight.next_s == pytest.approx(clock.now + 1.0 - LEAD_S)
    clock.now += 0.96
    assert flight.may_take()
    second = flight.start("y", "a")
    assert second.due_s == pytest.approx(clock.now + 0.04 + 1.0)  # it begins when the first has ended
    assert not flight.may_take()


def test_a_kind_that_nobody_knows_does_not_keep_the_device_waiting() -> None:
    clock = Clock()
    flight: Flight[str] = Flight(3, LEAD_S, clock)
    flight.start("x", "new")
    assert flight.may_take()


def test_no_more_fly_than_may() -> None:
    clock = Clock()
    flight: Flight[str] = Flight(2, LEAD_S, clock)
    for name in ("x", "y"):
        flight.start(name, "new")
    clock.now += 10
    assert not flight.may_take()


def test_a_batch_costs_from_when_the_device_began_with_it() -> None:
    clock = Clock()
    flight = learned(clock, 1.0)
    first = flight.start("x", "a")
    clock.now += 0.96
    second = flight.start("y", "a")
    clock.now += 0.04
    assert flight.end(first) == pytest.approx(clock.now - 1.0)
    ended = clock.now
    clock.now += 1.0
    assert flight.end(second) == pytest.approx(ended)  # and not 0.04 s before, when it was started


def test_who_fails_teaches_nothing() -> None:
    clock = Clock()
    flight = learned(clock, 1.0)
    failing = flight.start("x", "a")
    clock.now += 30
    flight.drop(failing)
    assert flight.start("y", "a").due_s == pytest.approx(clock.now + 1.0)


@given(st.lists(st.tuples(st.sampled_from(["start", "end", "drop"]), st.floats(0, 2), st.integers(0, 2)), max_size=60))
def test_whatever_happens_it_keeps_count(events: list[tuple[str, float, int]]) -> None:
    clock = Clock()
    flight: Flight[int] = Flight(3, LEAD_S, clock)
    flying: list[Flying[int]] = []
    for number, (event, passed, which) in enumerate(events):
        clock.now += passed
        if event == "start" and flight.may_take():
            flying.append(flight.start(number, which))
        elif event != "start" and flying:
            one = flying.pop(which % len(flying))  # in any order
            if event == "end":
                assert one.started_s <= flight.end(one) <= clock.now
            else:
                flight.drop(one)
        assert list(flight.flying) == flying
        assert len(flying) <= 3
        assert all(each.due_s >= each.started_s for each in flying)
        if not flying:
            assert flight.may_take()
