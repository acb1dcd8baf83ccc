"""Scenario files are read strictly, and what they make answers as its own framework does."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.scenario import Scenario, load_scenario, prepare, scenario_names
from penstock.core.errors import ConfigError
from penstock.load.dialects import PenstockMsgpack

SMALL = """
title = "t"
about = "a"
models = [
  { kind = "mlp", name = "m", widths = [4, 3, 2], copies = 3 },
  { kind = "encoder", name = "e", tokens = 8, width = 4 },
]
traffic = [{ model = "m", rows = 8, zipf = 1.0, share = 3 }, { model = "e", rows = 4, slo_ms = 5 }]
"""


def write(folder: Path, text: str) -> str:
    (folder / "mine.toml").write_text(text)
    return str(folder / "mine.toml")


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_is_valid(name: str) -> None:
    scenario = load_scenario(name)
    assert scenario.name == name and scenario.about.endswith(".")
    assert all(0 < load <= 2 for load in scenario.load.loads)


def test_the_scenarios_that_are_promised_are_there() -> None:
    promised = {"w1", "w2", "images", "text", "trees", "many", "mixed", "overload", "crash", "slow-readers", "bursts"}
    promised |= {"w1-answer", "w1-record"}
    promised |= {"slo5", "slo10", "slo30", "slo37", "slo-bursty", "slo-overload", "slo-mixed", "slo-mixed2"}
    promised |= {"slo-equal", "slo-priorities", "slo-tenants"}
    assert promised <= set(scenario_names())


def test_traffic_is_shared_out(tmp_path: Path) -> None:
    prepared = prepare(load_scenario(write(tmp_path, SMALL)), tmp_path / "models")
    assert list(prepared.models) == ["m-1", "m-2", "m-3", "e"]
    corpus = prepared.corpus(PenstockMsgpack())
    shares = {traffic.model: traffic.share for traffic in corpus.traffics}
    assert shares == pytest.approx({"m-1": 3 * 6 / 11, "m-2": 3 * 3 / 11, "m-3": 3 * 2 / 11, "e": 1})
    assert corpus.traffics[3].slo_ms == 5 and len(corpus.kinds) == 3 * 8 + 4
    # Copies are models of their own.
    rows = corpus.traffics[0].rows
    assert corpus.traffics[0].expected is not None and corpus.traffics[1].expected is not None
    assert not np.allclose(corpus.traffics[0].expected[0]["y"], corpus.traffics[1].expected[0]["y"])
    assert not np.array_equal(rows[0]["x"], corpus.traffics[1].rows[0]["x"])
    assert all(traffic.expected is None for traffic in prepared.corpus(PenstockMsgpack(), known=False).traffics)


def test_padding_changes_no_answer(tmp_path: Path) -> None:
    """The text model answers the mean over words: the same words with more padding behind them mean the same."""
    from bench.models import write_encoder
    from bench.scenario import open_session

    session = open_session(write_encoder(tmp_path / "e.onnx", tokens=8, width=4))
    ids = np.array([[5, 6, 7, 0, 0, 0, 0, 0], [5, 6, 7, 9, 0, 0, 0, 0]], dtype=np.int64)
    both = session.run(None, {"ids": ids})[0]
    alone = session.run(None, {"ids": ids[:1]})[0]
    assert np.allclose(both[0], alone[0], atol=1e-6) and not np.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SMALL.replace("copies", "copys"), "unknown field `copys`"),
        (SMALL.replace('kind = "mlp"', 'kind = "rnn"'), "Invalid value 'rnn'"),
        (SMALL.replace('title = "t"', ""), "missing required field `title`"),
        (SMALL.replace('traffic = [{ model = "m"', 'traffic = [{ model = "q"'), "no model of the scenario"),
        (SMALL.replace("rows = 8", 'rows = "8"'), "Expected `int`"),
        (SMALL.replace("[4, 3, 2]", "[4]"), "length >= 2"),
        (SMALL.replace("share = 3", "rate = 3"), "give a rate to every part"),
        (SMALL.replace("share = 3", 'arrivals = "never"'), "Invalid enum value 'never'"),
        (SMALL.replace("[4, 3, 2]", "[4, -3]"), "`int` >= 1"),
        (SMALL.replace("share = 3", "share = 0"), "`float` > 0"),
        (SMALL.replace("slo_ms = 5", "slo_ms = -5"), "`float` > 0"),
        (SMALL.replace('name = "e"', 'name = "m"'), "two models have the same name"),
        ("title = ", "mine.toml"),
    ],
)
def test_a_wrong_scenario_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_scenario(write(tmp_path, text))


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(ConfigError, match="there are bursts, crash"):
        load_scenario("w9")


def test_a_device_answers_and_knows_its_bound(tmp_path: Path) -> None:
    prepared = prepare(load_scenario("slo30"), tmp_path)
    assert prepared.full_rate == pytest.approx((1 - 1.99 * 2 / 60) / 0.0002)
    assert prepared.scenario.settings["device"]["slo_ms"] == 60
    named: dict[str, Any] = {}
    exec(prepared.models["device"].read_text(), named)
    device = named["Model"]()
    device.load()
    x = np.ones((3, 8), np.float32)
    began = time.perf_counter()
    answer = device.predict({"x": x})["y"]
    assert time.perf_counter() - began >= 0.0026
    assert np.array_equal(answer, x * 2 + 1)


def test_kinds_have_headers_rates_and_arrivals(tmp_path: Path) -> None:
    prepared = prepare(load_scenario("slo-priorities"), tmp_path / "p")
    corpus = prepared.corpus(PenstockMsgpack())
    assert prepared.full_rate == 8200 and [traffic.name for traffic in corpus.traffics] == ["interactive", "batch"]
    assert b"X-Request-Priority: batch\r\n" in corpus.requests[int(corpus.offsets[1024]) :].tobytes()
    steady, pulsed = prepare(load_scenario("slo-tenants"), tmp_path / "t").corpus(PenstockMsgpack()).traffics
    assert (steady.arrivals, pulsed.arrivals) == ("", "pulsed")


def test_settings_change_with_the_scenario() -> None:
    changed = load_scenario("slo-mixed").with_serve(lambda model: {"max_batch_size": 8}, scheduling="round-robin")
    assert {settings["max_batch_size"] for settings in changed.settings.values()} == {8}
    assert changed.settings["m5"]["slo_ms"] == 5 and changed.server == {"scheduling": "round-robin"}


def test_trees_are_trained_on_the_real_data(tmp_path: Path) -> None:
    scenario: Scenario = load_scenario("trees")
    corpus = prepare(scenario, tmp_path).corpus(PenstockMsgpack())
    expected = corpus.traffics[0].expected
    assert expected is not None
    probabilities = np.array([answer["probability"] for answer in expected])
    assert probabilities.min() < 0.01 and probabilities.max() > 0.99
