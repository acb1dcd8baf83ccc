"""Round-robin is tuned fairly, and no setting is searched further than it can win."""

from pathlib import Path

import pytest

from bench.capacity import Trial
from bench.engine import BETTER, climb, in_turns
from bench.scenario import load_scenario, prepare
from bench.simulated import simulated_capacity


class Server:
    """What holds up to a rate, and counts how often it was tried."""

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.trials = 0

    def __call__(self, rate: float, seed: int) -> Trial:
        self.trials += 1
        kept = rate <= self.capacity
        return Trial(rate, 1000, 0 if kept else 900, 0, kept, False, 1.0)


@pytest.mark.parametrize("capacity", [300.0, 700.0, 1100.0])
def test_the_first_setting_is_searched_for(capacity: float) -> None:
    assert climb(Server(capacity), 0.0, 1000) == pytest.approx(capacity, rel=0.08)


def test_a_setting_that_is_no_better_costs_one_trial() -> None:
    server = Server(700)
    assert climb(server, 695.0, 1000) == 0 and server.trials == 1


@pytest.mark.parametrize("capacity", [720.0, 950.0, 1500.0])
def test_a_better_setting_is_searched_above_the_best(capacity: float) -> None:
    found = climb(Server(capacity), 700.0, 1000)
    assert 700 * BETTER <= found <= capacity
    assert found == pytest.approx(min(capacity, 1200), rel=0.05)


def test_the_simulator_knows_the_device(tmp_path: Path) -> None:
    prepared = prepare(load_scenario("slo30"), tmp_path)
    found = simulated_capacity(prepared)
    assert found is not None and found / (prepared.full_rate or 0) == pytest.approx(1.0, abs=0.02)
    assert simulated_capacity(prepare(load_scenario("slo-tenants"), tmp_path)) is None
    mixed = load_scenario("slo-mixed")
    engine = simulated_capacity(prepare(mixed, tmp_path))
    turns = simulated_capacity(prepare(in_turns(mixed, 0.05), tmp_path))
    assert engine is not None and turns is not None and engine > 1.15 * turns


def test_models_in_turn_have_delays_and_no_limits() -> None:
    scenario = in_turns(load_scenario("slo-mixed"), 0.1)
    assert scenario.server == {"scheduling": "round-robin"}
    assert all("slo_ms" not in settings and settings["group"] == "device" for settings in scenario.settings.values())
    delays = [settings["max_queue_delay_us"] for settings in scenario.settings.values()]
    assert delays == [500, 2000, 6000, 20000]
