"""`penstock simulate` as a person meets it, and the simulator through its module."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.native._batcher import SimulatedModel, Simulator

KNOTS = [1 << k for k in range(13)]
# a = 2 ms, c = 0.1 ms and a limit of 20 ms: scenario B of docs/batching.md, whose bound is 8,010 rows/s.
SCENARIO = ["--fixed-ms", "2", "--per-row-us", "100", "--slo-ms", "20", "--max-batch-size", "128", "--rows", "100000"]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", "simulate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def figures_of(*arguments: str) -> dict[str, Any]:
    result = simulate(*arguments, "--json")
    assert result.returncode in {0, 1}, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_capacity_is_near_the_bound() -> None:
    document = figures_of(*SCENARIO, "--rate", "7000")
    (model,) = document["models"]
    assert 0.955 * 8010 < model["capacity"] < 8010
    assert model["kept"] is True
    assert document["instances_needed"] == 1
    assert 2.1 < model["latency_ms"]["p50"] < model["latency_ms"]["p99"] <= 20


def test_overload_is_refused_and_sized() -> None:
    result = simulate(*SCENARIO, "--rate", "15000")
    assert result.returncode == 1
    assert "2 instances needed" in result.stdout
    (model,) = figures_of(*SCENARIO, "--rate", "16000")["models"]
    assert model["goodput"] > 0.97 * 7700
    assert model["refused"] > 0.4


def test_points_and_files_say_the_same(tmp_path: Path) -> None:
    file = tmp_path / "curve.json"
    file.write_text('{"1": 2.1, "4096": 411.6}')
    given_by = [["--curve", "1:2.1,4096:411.6"], ["--curve", str(file)], SCENARIO[:4]]
    documents = [figures_of(*curve, *SCENARIO[4:], "--rate", "5000") for curve in given_by]
    assert documents[0] == documents[1] == documents[2]


def test_several_models_share_a_device(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        "[models.fast]\nfixed_ms = 0.3\nper_row_us = 50\nrate = 2000\nslo_ms = 5\nmax_batch_size = 32\n"
        "[models.slow]\ncurve = {1 = 0.7, 64 = 13.3}\nrate = 1000\nslo_ms = 200\nmax_batch_size = 16\n"
    )
    document = figures_of("--models", str(file), "--rows", "50000")
    assert [model["name"] for model in document["models"]] == ["fast", "slow"]
    assert all(model["kept"] for model in document["models"])
    turns = figures_of("--models", str(file), "--rows", "50000", "--scheduling", "round-robin")
    assert document["capacity_factor"] > 1.1 * turns["capacity_factor"]


def test_without_a_limit_what_is_carried_is_told() -> None:
    document = figures_of("--fixed-ms", "2", "--per-row-us", "100", "--rate", "5000", "--rows", "5000")
    (model,) = document["models"]
    assert model["capacity"] == pytest.approx(64 / 8.4 * 1000)
    assert model["kept"] is None and model["queue_grows"] is False
    assert document["instances_needed"] == 1


def test_a_queue_without_end_is_told() -> None:
    result = simulate("--fixed-ms", "2", "--per-row-us", "100", "--rate", "12000", "--rows", "20000")
    assert result.returncode == 1
    assert "7,619 rows/s at most" in result.stdout
    assert "its queue grows without end" in result.stdout
    assert "2 instances needed" in result.stdout


def test_a_queue_without_end_beside_limits_is_told(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        "[models.fast]\nfixed_ms = 0.3\nper_row_us = 50\nrate = 2000\nslo_ms = 5\nmax_batch_size = 32\n"
        "[models.slow]\ncurve = {1 = 0.7, 64 = 13.3}\nrate = 6000\nmax_batch_size = 16\n"
    )
    document = figures_of("--models", str(file), "--rows", "50000")
    assert [model["queue_grows"] for model in document["models"]] == [False, True]
    assert document["instances_needed"] == 2


def test_more_instances_than_can_be_are_told() -> None:
    result = simulate("--fixed-ms", "100", "--rate", "20000", "--rows", "50000", "--max-batch-size", "1")
    assert result.returncode == 1
    assert "over 1024 instances needed" in result.stdout


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_is_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curve.{suffix}"
    assert simulate(*SCENARIO, "--rate", "5000", "--plot", str(path)).returncode == 0
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "5"], "say what batches cost by --fixed-ms and --per-row-us, or by --curve"),
        ([*SCENARIO, "--rate", "5", "--curve", "1:1"], "by one only"),
        ([*SCENARIO], "--rate is missing or 0"),
        (["--fixed-ms", "-1", "--rate", "5"], "--fixed-ms is from 0 to"),
        ([*SCENARIO, "--rate", "5", "--arrivals", "often"], "--arrivals is one of poisson, bursty, gamma, not 'often'"),
        (["--fixed-ms", "1", "--rate", "5", "--arrivals", "bursty"], "give --slo-ms too"),
        (
            [*SCENARIO, "--rate", "5", "--scheduling", "engine"],
            "--scheduling 'engine': expected one of 'deadline', 'round-robin'",
        ),
        (["--fixed-ms", "nan", "--rate", "5"], "--fixed-ms is from 0 to 1e+07, not nan"),
        (["--per-row-us", "inf", "--rate", "5"], "--per-row-us is from 0 to 1e+07, not inf"),
        (["--fixed-ms", "1", "--rate", "inf"], "rows per second, not inf"),
        (["--fixed-ms", "1", "--rate", "5", "--slo-ms", "nan"], "--slo-ms is above 0"),
        (["--curve", "1:inf", "--rate", "5"], "--curve has points"),
        (["--curve", "", "--rate", "5"], "--curve is empty"),
        ([*SCENARIO, "--rate", "1e9"], "--rows 100000 is too short a run"),
        (["--fixed-ms", "2", "--rate", "1e6", "--rows", "2000"], "give --rows 40000 at least"),
        ([*SCENARIO, "--rate", "5", "--plot", "missing/plot.png"], "there is no folder missing"),
        (["--curve", "1:2,2:1", "--rate", "5"], "does not decrease"),
        (["--curve", "1:2,two:1", "--rate", "5"], "is not made of ROWS:MS"),
        (["--curve", "missing.json", "--rate", "5"], "cannot be read"),
        ([*SCENARIO, "--rate", "5", "--plot", "plot.gif"], "a .png or an .svg file"),
        (["--models", "missing.toml"], "missing.toml cannot be read"),
        ([*SCENARIO, "--rate", "5", "--models", "missing.toml"], "give no flags about one model beside it"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], message: str) -> None:
    result = simulate(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("penstock: ")
    assert message in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models = 1", "must have a table [models.NAME]"),
        ("[models.a]\nslo = 5", "models.a: unknown setting 'slo'; known are"),
        ("[models.a]\nrate = 'much'", "models.a.rate = 'much': expected a number"),
        ("[models.a]\nbatch_sizes = 8", "expected a list of whole numbers"),
        ("[models.a]\ncurve = {one = 1}", "is not made of ROWS:MS"),
        ("[models.a]\nweight = 0", "expected a whole number above 0"),
        ("[models.a", "is not TOML"),
        ("[models]\na = 1", "models.a = 1: expected a table"),
        ("[models.a]\nfixed_ms = 1", "models.a.rate is missing or 0"),
    ],
)
def test_wrong_files_are_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.toml"
    file.write_text(text)
    result = simulate("--models", str(file))
    assert result.returncode == 2
    assert message in result.stderr


@given(
    fixed_us=st.integers(0, 5_000),
    row_us=st.integers(1, 2_000),
    load=st.floats(0.05, 3),
    limit_ms=st.integers(1, 200),
    block_rows=st.sampled_from([1, 2, 8]),
    instances=st.integers(1, 4),
    process=st.sampled_from(["poisson", "bursty", "gamma"]),
    admission=st.booleans(),
    seed=st.integers(0, 1 << 32),
)
@settings(max_examples=150, deadline=None)
def test_every_row_has_one_fate(
    fixed_us: int,
    row_us: int,
    load: float,
    limit_ms: int,
    block_rows: int,
    instances: int,
    process: str,
    admission: bool,
    seed: int,
) -> None:
    mean_ns = [1000.0 * (fixed_us + row_us * rows) for rows in KNOTS]
    model = SimulatedModel(mean_ns, [1.04 * ns for ns in mean_ns], load * 1e6 / row_us)
    model.arrive(process)
    model.limit(limit_ms * 1_000_000)
    model.batch(64, block_rows)
    simulator = Simulator([model], instances=instances, admission=admission, rows=2000, seed=seed)
    run = simulator.run()
    (figures,) = run.models
    assert figures.in_time + figures.late + figures.shed + figures.refused == figures.rows
    assert figures.rows == 1900
    assert figures.rows_run <= figures.in_time + figures.late + 64 * instances
    assert run.idle_with_rows == 0  # alone, it never waits while it has rows
    assert simulator.run().models[0].latency_ns == figures.latency_ns
