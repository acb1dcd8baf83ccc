"""What `python -m bench swaps` makes of what it sees: seconds, answers, verdicts."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.models import mlp_answers, mlp_layers, write_mlp
from bench.scenario import open_session
from bench.swaps.answers import KnownAnswers, problems_of
from bench.swaps.clients import Checked, Seen, outdated
from bench.swaps.result import SwapOptions, SwapResult
from bench.swaps.seconds import Kind, Swap, median_p99, p99_ratio, seconds_of
from bench.swaps.sizes import Sizes
from bench.swaps.verdicts import judge_answers, judge_sizes
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.recording import RECORD, Answer, Recording
from penstock.load.rows import TensorSpec, random_rows

SECOND = 1_000_000_000
STARTED = 5 * SECOND


def records(*latencies_us: float, each: int = 200) -> Any:
    """`each` requests a second, of which 2 % take ten times as long as the second's latency."""
    found = np.zeros(len(latencies_us) * each, RECORD)
    for second, latency in enumerate(latencies_us):
        part = found[second * each : (second + 1) * each]
        part["due_ns"] = second * SECOND + np.arange(each) * (SECOND // each)
        part["noticed_ns"] = part["due_ns"]
        part["done_ns"] = part["due_ns"] + int(latency * 1e3)
        part["done_ns"][: each // 50] += int(latency * 9e3)
        part["status"] = 200
    return found


def swap(began: float, returned: float, gone: float, version: str = "1") -> Swap:
    """Times in seconds of the run."""
    return Swap(version, *(int(STARTED + time * SECOND) for time in (began, returned, gone)))


def test_a_second_is_one_of_a_swap_when_any_part_of_one_falls_into_it() -> None:
    found = seconds_of(
        records(10, 20, 30, 40, 50), STARTED, range(1, 5), [swap(1.9, 2.0, 2.1), swap(4.999, 5.5, 6, "2")]
    )
    assert [second.kind for second in found] == [Kind.SWAP, Kind.SWAP, Kind.STEADY, Kind.SWAP]
    assert [second.p50 for second in found] == [20, 30, 40, 50]
    assert [second.p99 for second in found] == [200, 300, 400, 500]
    assert {second.requests for second in found} == {200}


def test_seconds_with_few_answers_say_nothing() -> None:
    found = records(10, 20)
    found["status"][:150] = 503
    assert len(seconds_of(found, STARTED, range(2), [])) == 1


def test_the_ratio_is_that_of_medians() -> None:
    seconds = seconds_of(records(10, 11, 99, 13, 26, 7), STARTED, range(6), [swap(3.2, 3.3, 3.4), swap(4, 4.1, 4.2)])
    assert median_p99(seconds, Kind.STEADY) == pytest.approx(105)  # of 70, 100, 110 and 990
    assert median_p99(seconds, Kind.SWAP) == pytest.approx(195)
    assert p99_ratio(seconds) == pytest.approx(195 / 105)
    assert p99_ratio([second for second in seconds if second.kind is Kind.STEADY]) is None


def test_the_lag_is_the_generators() -> None:
    found = records(10)
    found["noticed_ns"] += 3000
    assert seconds_of(found, STARTED, range(1), [])[0].lag_p99 == 3


@pytest.fixture
def known() -> KnownAnswers:
    rows = random_rows([TensorSpec("x", "float32", (4,))], 6)
    return KnownAnswers(rows, {str(seed): mlp_answers(mlp_layers((4, 8, 3), seed), rows) for seed in (1, 2)})


def answer(known: KnownAnswers, said: str, meant: str, row: int) -> bytes:
    values = known.by_version[meant][row]["y"].tolist()
    return json.dumps({"model": "m", "version": said, "outputs": {"y": values}}).encode()


def test_known_answers_are_those_of_the_file(tmp_path: Path) -> None:
    rows = random_rows([TensorSpec("x", "float32", (4,))], 6)
    session = open_session(write_mlp(tmp_path / "m.onnx", (4, 8, 3), 7))
    theirs = [session.run(None, {"x": row["x"][None]})[0][0] for row in rows]
    ours = [row["y"] for row in mlp_answers(mlp_layers((4, 8, 3), 7), rows)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_an_answer_must_be_that_of_the_version_it_names(known: KnownAnswers) -> None:
    assert known.judge_one(2, answer(known, "2", "2", 2)) == ("2", None)
    for body in (
        answer(known, "1", "2", 2),
        answer(known, "2", "2", 3),
        answer(known, "3", "2", 2),
        b"{}",
        b"[]",
        b'{"version":"1","outputs":{"y":[1,2]}}',
    ):
        assert known.judge_one(2, body)[1] is not None, body


def test_all_rows_of_a_raw_answer_must_be_of_one_version(known: KnownAnswers) -> None:
    one, two = (np.stack([row["y"] for row in known.by_version[version]]) for version in ("1", "2"))
    assert known.judge_many("1", range(1, 5), one[1:5].tobytes()) is None
    mixed = np.concatenate([one[1:4], two[4:5]])
    assert "rows [3] of 4" in str(known.judge_many("1", range(1, 5), mixed.tobytes()))
    assert known.judge_many("2", range(1, 5), one[1:5].tobytes()) is not None
    assert known.judge_many("1", range(1, 5), one[1:4].tobytes()) is not None
    assert known.judge_many("", range(1, 5), one[1:5].tobytes()) is not None


def test_every_answer_of_the_load_is_judged(known: KnownAnswers) -> None:
    corpus = Corpus.of([Traffic("m", PenstockJson(), known.rows, [TensorSpec("y", "float32", (3,))])])
    right = [Answer(0, 200, 9, answer(known, "1", "1", 0)), Answer(0, 200, 4, answer(known, "2", "2", 0))]
    refused = Answer(1, 503, 2, b"{}")
    recording = Recording(corpus, records(10), [*right, refused], 1.0, 0.0, open_loop=True)
    assert problems_of(recording, known) == (0, [])
    mixed = Answer(3, 200, 7, answer(known, "1", "2", 3))
    assert problems_of(replace(recording, answers=[*right, mixed]), known)[0] == 7
    assert problems_of(replace(recording, unkept_answers=5), known)[0] == 5


def test_after_the_api_has_answered_the_old_version_must_not() -> None:
    swaps = [Swap("1", 100, 200, 300), Swap("2", 500, 600, 700)]
    seen = [
        Seen(90, 150, "2"),
        Seen(190, 210, "2"),  # was asked for before
        Seen(210, 220, "1"),
        Seen(490, 510, "2"),  # the next swap had begun
        Seen(610, 620, "2"),
    ]
    assert outdated(seen, swaps) == 0
    assert outdated([*seen, Seen(201, 230, "2"), Seen(650, 660, "1")], swaps) == 2


def test_clients_tell_failures_from_mixed_answers() -> None:
    checked = Checked()
    checked.right(Seen(10, 20, "1"))
    checked.right(Seen(11, 18, "2"))
    checked.wrong("503", failed=True)
    checked.wrong("mixed", failed=False)
    assert (checked.answers, checked.failed, checked.mixed, checked.problems) == (2, 1, 1, ["503", "mixed"])
    assert checked.first_of("2", 11) == 18 and checked.first_of("2", 12) is None


def seen_by_a_run(**more: Any) -> SwapResult:
    sizes = Sizes(own=50 << 20, rings=2, descriptors=30)
    return SwapResult(
        "onnx", 1000, **{"requests": 10, "checked": 5, "start": sizes, "level": sizes, "end": sizes} | more
    )


@pytest.mark.parametrize(
    "more",
    [
        {"errors": Counter({"503": 1})},
        {"wrong": 1},
        {"outdated": 1},
        {"checked": 0},
        {"end": Sizes(53 << 20, 2, 30)},
        {"end": Sizes(50 << 20, 3, 30)},
        {"end": Sizes(50 << 20, 2, 31)},
        {"end": None},
        {"start": None},
    ],
)
def test_what_must_not_be_is_missed(more: dict[str, Any]) -> None:
    def all_reached(result: SwapResult) -> bool:
        return all(verdict.reached for verdict in [*judge_answers(result), *judge_sizes(result)])

    assert all_reached(seen_by_a_run())
    assert not all_reached(seen_by_a_run(**more))


@pytest.mark.parametrize("swaps", [1, 4, 20, 1000])
def test_memory_is_looked_at_between_several_loads(swaps: int, tmp_path: Path) -> None:
    options = SwapOptions(tmp_path, swaps=swaps)
    assert 1 <= options.round_swaps <= max(1, swaps // 4)
    assert options.round_seconds(4) > options.rest_seconds + 4
    assert options.round_seconds(4, 90) > options.rest_seconds + 90, "one that is slow fits, too"
