"""The soak in short: `python -m bench soak` runs it for half an hour."""

from pathlib import Path

import pytest

from bench.soak import SoakOptions, run_soak


def assert_sound(options: SoakOptions) -> None:
    result = run_soak(options)
    assert result.failures() == [], result
    assert result.kills >= 2, "the test was too short to kill anything"


def test_mixed_load_loses_nothing(tmp_path: Path) -> None:
    assert_sound(SoakOptions(tmp_path, seconds=20, clients=4, kill_every_seconds=3))


@pytest.mark.slow
def test_mixed_load_with_a_death_every_second(tmp_path: Path) -> None:
    assert_sound(SoakOptions(tmp_path, seconds=120, clients=8, kill_every_seconds=1, seed=2))
