"""penstock calibrate: what is learned from a table gets into the plan."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from click.testing import Result
from numpy.typing import NDArray
from pyarrow import parquet
from typer.testing import CliRunner

from penstock.cli.commands import app
from penstock.core.written_file import WrittenFile
from penstock.processing.answers.answer import read_answer
from penstock.worker.answers import Answers
from penstock.worker.model import ModelSpec, TensorSpec

LABELS = ["cat", "dog", "bird"]


def run(folder: Path, *arguments: str) -> Result:
    """Run the command in a folder."""
    with contextlib.chdir(folder):
        return CliRunner().invoke(app, ["calibrate", *arguments])


def learned(folder: Path, *arguments: str) -> tuple[list[str], dict[str, Any]]:
    result = run(folder, *arguments)
    assert result.exit_code == 0, result.stderr
    *_, written = lines = result.stdout.splitlines()
    file = folder / written.removesuffix(": written")
    return lines[:-1], json.loads(file.read_text())["answer"]


def plan(folder: Path, answer: Any) -> None:
    (folder / "processing.json").write_text(json.dumps({"format": 1, "answer": answer}))


def drawn(rows: int, classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return logits that are twice too sure, and truths."""
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (rows, classes)).astype(np.float32)
    shares = np.exp(logits / 2)
    shares = (shares / shares.sum(axis=1, keepdims=True)).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > shares).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet", "lists"])
def test_all_at_once_from_every_kind_of_table(tmp_path: Path, kind: str) -> None:
    logits, truth = drawn(4000)
    names = np.array(LABELS)[truth]
    plan(tmp_path, {"logits": {"scores": "softmax", "labels": LABELS, "give": ["label"]}})
    file = tmp_path / f"rows.{'parquet' if kind == 'lists' else kind}"
    columns: dict[str, Any] = {f"logits[{at}]": logits[:, at] for at in range(3)} | {"animal": names}
    if kind == "npz":
        np.savez(file, logits=logits, animal=names)
    elif kind == "csv":
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        file.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    elif kind == "parquet":
        parquet.write_table(pyarrow.table(columns), file)
    else:
        parquet.write_table(pyarrow.table({"logits": logits.tolist(), "animal": names}), file)
    flags = ("--method", "temperature", "--alpha", "0.1", "--precision", "0.9", "-o", "new.json")
    lines, answer = learned(tmp_path, "processing.json", file.name, "--truth", "animal", *flags)
    part = answer["logits"]
    assert abs(part["calibration"]["temperature"] - 2) < 0.15
    assert part["conformal"].items() >= {"rule": "lac", "alpha": 0.1}.items()
    assert 0.5 < part["conformal"]["quantile"] < 1
    assert list(part["threshold"]) == LABELS
    assert part["give"] == ["label", "set", "set_size", "abstained"]
    assert lines[0].startswith("temperature from 2000 rows; over 2000 negative log-likelihood ")
    assert [line.split(":")[0] for line in lines[2:]] == [f"threshold of {label}" for label in LABELS]
    assert answer == GIVEN.setdefault("answer", answer)  # of every kind the same


GIVEN: dict[str, Any] = {}


def test_platt_and_isotonic_are_for_each_class_and_for_two_once(tmp_path: Path) -> None:
    logits, truth = drawn(1000)
    np.savez(tmp_path / "rows.npz", y=logits, truth=truth)
    for method in ("platt", "isotonic"):
        plan(tmp_path, {"y": {"scores": "softmax"}})
        _, answer = learned(tmp_path, "processing.json", "rows.npz", "--truth", "truth", "--method", method)
        assert len(answer["y"]["calibration"][method]) == 3
    for one, scores in ((logits[:, :1], "sigmoid"), (logits[:, 0], "none"), (logits[:, :2], "softmax")):
        np.savez(tmp_path / "two.npz", y=one, truth=truth > 0)
        plan(tmp_path, {"y": {"scores": scores, "labels": ["False", "True"]}})
        _, answer = learned(tmp_path, "processing.json", "two.npz", "--truth", "truth", "--method", "platt")
        assert np.shape(answer["y"]["calibration"]["platt"]) == (2,)


@pytest.mark.parametrize("labels", [None, ["no", "yes"]])
def test_truths_of_two_classes_may_be_bools(tmp_path: Path, labels: list[str] | None) -> None:
    random = np.random.default_rng(5)
    scores = random.normal(0, 2, 500)
    truth = random.random(500) < 1 / (1 + np.exp(-scores))
    plan(tmp_path, {"y": {"scores": "sigmoid", **({"labels": labels} if labels else {})}})
    np.savez(tmp_path / "rows.npz", y=scores, truth=truth)
    spelt = "\n".join(["y,truth", *(f"{score},{right}" for score, right in zip(scores, truth, strict=True))])
    (tmp_path / "bools.csv").write_text(spelt)
    (tmp_path / "floats.csv").write_text(spelt.replace("True", "1.0").replace("False", "0.0"))
    tables = ["rows.npz", "bools.csv", *([] if labels else ["floats.csv"])]
    found = [learned(tmp_path, "processing.json", table, "--truth", "truth", *METHOD)[1] for table in tables]
    assert abs(found[0]["y"]["calibration"]["temperature"] - 1) < 0.2
    assert all(answer == found[0] for answer in found)


def test_one_row_cannot_be_shared(tmp_path: Path) -> None:
    plan(tmp_path, Y)
    np.savez(tmp_path / "rows.npz", y=np.zeros((1, 3)), truth=["cat"])
    done = run(tmp_path, "processing.json", "rows.npz", "--truth", "truth", "--alpha", "0.5", *METHOD)
    assert "1 row is too few to be shared by --method and what is learned after it" in done.stderr


def test_multilabel_gets_cuts(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    logits = random.normal(0, 3, (3000, 3))
    truth = random.random((3000, 3)) < 1 / (1 + np.exp(-logits / 2))
    np.savez(tmp_path / "rows.npz", y=logits, truth=truth)
    plan(tmp_path, {"y": {"scores": "sigmoid", "multilabel": True, "labels": LABELS}})
    flags = ("--truth", "truth", "--precision", "0.9", "--method")
    for method in ("temperature", "platt", "isotonic"):
        _, answer = learned(tmp_path, "processing.json", "rows.npz", *flags, method)
        assert list(answer["y"]["cut"]) == LABELS
        assert all(0.5 < cut < 0.95 for cut in answer["y"]["cut"].values())
    _, answer = learned(tmp_path, "processing.json", "rows.npz", "--truth", "truth", "--method", "temperature")
    assert abs(answer["y"]["calibration"]["temperature"] - 2) < 0.1


def test_intervals_are_in_the_unit_of_the_answer(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    price = random.uniform(50, 500, 2000)
    spread = random.uniform(1, 10, 2000)
    truth = price + random.normal(0, spread)
    np.savez(tmp_path / "rows.npz", y=np.log1p(price), spread=spread, price=truth)
    undone = {"inverse": [{"log": 1}], "unit": "EUR"}
    for interval, least, most, told in (({}, 8, 14, " EUR"), ({"by": "spread"}, 1.5, 1.8, " times spread")):
        members = undone | ({"interval": {"alpha": 0.1, **interval}} if interval else {})
        plan(tmp_path, {"y": members, "spread": {"drop": True}})
        flags = ("--truth", "price", "--of", "y", "--alpha", "0.1")
        lines, answer = learned(tmp_path, "processing.json", "rows.npz", *flags)
        found = answer["y"]["interval"]
        assert least < found["quantile"] < most
        assert found == {"alpha": 0.1, "quantile": found["quantile"], **interval}
        assert lines == [f"interval from 2000 rows: {found['quantile']:.4g}{told} to both sides"]


def test_intervals_within_bounds_hold_the_truth_as_often_as_promised(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    truth = random.uniform(0, 1, 4000)
    found = truth + random.normal(0, 1, 4000)
    np.savez(tmp_path / "rows.npz", y=found[:2000], truth=truth[:2000])
    plan(tmp_path, {"y": {"minimum": 0, "maximum": 1}})
    _, answer = learned(tmp_path, "processing.json", "rows.npz", "--truth", "truth", "--alpha", "0.1")
    file = tmp_path / "processing.json"
    answers = Answers(
        file,
        read_answer(WrittenFile(file, "plan", 1 << 20), answer),
        ModelSpec((), (TensorSpec("y", "float64", ()),)),
    )
    value, low, high = (np.empty(2000) for _ in range(3))
    answers.run(lambda _, outputs, __: np.copyto(outputs[0], found[2000:]), (), (value, low, high))
    held = float(((low <= truth[2000:]) & (truth[2000:] <= high)).mean())
    assert abs(held - 0.9) < 0.03


Y = {"y": {"scores": "softmax", "labels": LABELS}}
METHOD = ("--method", "temperature")


@pytest.mark.parametrize(
    ("answer", "flags", "text"),
    [
        (Y, (), "say what is to be learned: --method, --alpha or --precision"),
        (Y, ("--method", "beta"), "--method is 'beta': it can be temperature, platt, isotonic"),
        (Y, ("--alpha", "1"), "--alpha is 1: it must be between 0 and 1"),
        (Y, ("--alpha", "0.1", "--rule", "raps"), "--rule is 'raps': it can be lac, aps"),
        (Y, ("--alpha", "0.01"), "20 rows are too few for an alpha of 0.01: 99 are the least"),
        (Y | {"z": {"round": 1}}, METHOD, "processing.json: the answer has 2 outputs: name one with --of: y, z"),
        (
            Y,
            ("--of", "z", *METHOD),
            "--of is 'z', which is no output of the model: the answer of processing.json has y, and rows.npz has y",
        ),
        (
            {"z": Y["y"]},
            METHOD,
            "rows.npz: has neither a column 'z' nor 'z[0]': its columns are y, truth, gaps",
        ),
        ({"y": {"drop": True}}, METHOD, "processing.json: answer.y is dropped or taken apart: nothing can be learned"),
        ({"y": {"unit": "m"}}, METHOD, "answer.y has no 'scores', so it holds numbers: for an interval say"),
        ({"y": {"unit": "m"}}, METHOD, 'for a classifier add scores = "softmax" (logits), "sigmoid" (logits of'),
        ({"y": {"unit": "m"}}, ("--alpha", "0.1"), "rows.npz: truth has the shape (20, 1), and y has (20, 3)"),
        ({"y": Y["y"] | {"labels": ["a", "b"]}}, METHOD, "answer.y.labels are 2, and the model has 3 classes"),
        ({"y": Y["y"] | {"labels": ["a", "b", "c"]}}, METHOD, "rows.npz: row 0: truth is "),
        (Y, ("--truth", "right", *METHOD), "rows.npz: there is no column 'right' to be the truth"),
        (Y, ("--of", "gaps", *METHOD), "rows.npz: row 3: gaps is missing or no number"),
        (Y, ("--of", "words", "--truth", "y", "--alpha", "0.1"), "rows.npz: words: holds something that is no number"),
        ({"y": {"unit": "m"}}, ("--truth", "names", "--alpha", "0.1"), 'for a classifier add scores = "softmax"'),
    ],
)
def test_what_cannot_be_learned_is_said(tmp_path: Path, answer: Any, flags: tuple[str, ...], text: str) -> None:
    logits, truth = drawn(20)
    gaps = np.where(np.arange(60).reshape(20, 3) == 10, np.nan, logits)
    names = truth if "unit" in json.dumps(answer) else np.array(LABELS)[truth]
    more = {of: np.array(LABELS)[truth] for of in ("words", "names") if of in flags}
    np.savez(tmp_path / "rows.npz", y=logits, truth=names, gaps=gaps, **more)
    plan(tmp_path, answer)
    before = (tmp_path / "processing.json").read_text()
    truth_flag = () if "--truth" in flags else ("--truth", "truth")
    result = run(tmp_path, "processing.json", "rows.npz", *truth_flag, *flags)
    assert result.exit_code != 0

    assert text in result.stderr
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "processing.json").read_text() == before


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    plan(tmp_path, Y)
    (tmp_path / "bad.npz").write_text("no archive")
    for table, text in (("none.npz", "none.npz: cannot be read"), ("bad.npz", "bad.npz: is no .npz of numbers")):
        result = run(tmp_path, "processing.json", table, "--truth", "truth", *METHOD)
        assert result.exit_code != 0
        assert text in result.stderr
    logits, truth = drawn(50)
    np.savez(tmp_path / "rows.npz", y=logits, truth=np.array(LABELS)[truth])
    result = run(tmp_path, "processing.json", "rows.npz", "--truth", "truth", *METHOD, "-o", "plan.toml")
    assert "plan.toml: a plan is written as .json: say -o plan.json" in result.stderr


def test_a_plan_in_toml_is_not_written_over(tmp_path: Path) -> None:
    logits, truth = drawn(200)
    np.savez(tmp_path / "rows.npz", y=logits, truth=np.array(LABELS)[truth])
    written = (
        'format = 1\n[answer.y]\nscores = "softmax"\nlabels = ["cat", "dog", "bird"]\n[answer.label]\ndrop = true\n'
    )
    (tmp_path / "processing.toml").write_text(written)
    result = run(tmp_path, "processing.toml", "rows.npz", "--truth", "truth", *METHOD)
    assert result.exit_code == 2
    assert "processing.toml: a plan is written as .json: say where with -o, such as -o processing.json" in result.stderr
    # A folder has its plan, and an output that is dropped is none that could be meant.
    _, answer = learned(tmp_path, ".", "rows.npz", "--truth", "truth", *METHOD, "-o", "new.json")
    assert answer["label"] == {"drop": True} and "temperature" in answer["y"]["calibration"]


def test_a_plan_without_an_answer_is_told_what_to_add(tmp_path: Path) -> None:
    logits, truth = drawn(200)
    np.savez(tmp_path / "rows.npz", probabilities=logits, truth=truth)
    plan_of = {"format": 1, "record": {"age": {"type": "number"}}}
    (tmp_path / "processing.json").write_text(json.dumps(plan_of))
    result = run(tmp_path, "processing.json", "rows.npz", "--truth", "truth", *METHOD)
    assert result.exit_code == 2
    assert 'processing.json: has no answer, so nothing can be learned for one: add "answer": {"probabilities"' in (
        result.stderr
    )
    assert 'with scores = "softmax" (logits)' in result.stderr


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    plan(tmp_path, Y)
    np.save(tmp_path / "rows.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", y=np.array([{}, {}]), truth=np.zeros(2))
    (tmp_path / "empty.npz").write_text("")
    (tmp_path / "rows.npy").rename(tmp_path / "single.npz")
    np.save(tmp_path / "rows.npy", np.zeros(3))
    (tmp_path / "head.csv").write_text("y[0],y[1],y[2],truth\n")
    np.savez(tmp_path / "none.npz", y=np.zeros((0, 3)), truth=np.zeros(0))
    for table, text in (
        ("rows.npy", "rows.npy: tables are .csv, .parquet or .npz"),
        ("objects.npz", "objects.npz: is no .npz of numbers and strings: write it with numpy.savez"),
        ("empty.npz", "empty.npz: is no .npz of numbers and strings"),
        ("single.npz", "single.npz: is a single array, .npy: write it by the output's name with numpy.savez"),
        ("head.csv", "head.csv: has no rows"),
        ("none.npz", "none.npz: has no rows"),
    ):
        result = run(tmp_path, "processing.json", table, "--truth", "truth", *METHOD)
        assert result.exit_code == 2
        assert text in result.stderr
        assert "pickle" not in result.stderr


PROBABLE = {"y": {"scores": "none", "labels": LABELS}}


def test_scores_that_cannot_be_what_the_plan_says(tmp_path: Path) -> None:
    logits, truth = drawn(400)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.array(LABELS)[truth]
    for answer, scores, of, text in (
        (PROBABLE, shares * 3, names, "scores is none, which is for probabilities, and in rows.npz row "),
        (PROBABLE, shares * 0.9, names, "row 0 of y adds up to 0.9, not 1: say multilabel = true if several can be"),
        (PROBABLE, logits, names, 'say scores = "softmax" if they are logits, or learn with --method platt'),
        (Y, shares, names, 'adds up to 1: they are probabilities already, so say scores = "none"'),
        (Y, logits, np.full(400, "dog"), "truth: every row is 'dog', so nothing can be learned of the other labels"),
        (
            {"y": {"scores": "none", "multilabel": True}},
            shares,
            np.ones((400, 3)),
            "truth: every row is the same, so nothing can be learned from it",
        ),
    ):
        np.savez(tmp_path / "rows.npz", y=scores, truth=of)
        plan(tmp_path, answer)
        for flags in (METHOD, ("--alpha", "0.1"), ("--precision", "0.9")):
            if "multilabel" in answer["y"] and "--alpha" in flags:
                continue
            result = run(tmp_path, "processing.json", "rows.npz", "--truth", "truth", *flags)
            assert result.exit_code == 2, flags
            assert text in result.stderr
            assert result.stderr.count("\n") == 1
    # Platt's lines take any scores, and rounded shares are shares.
    for scores, method in ((logits, "platt"), (shares.round(2), "temperature")):
        np.savez(tmp_path / "rows.npz", y=scores, truth=names)
        plan(tmp_path, PROBABLE)
        learned(tmp_path, "processing.json", "rows.npz", "--truth", "truth", "--method", method)


def test_what_is_learned_from_little_or_for_worse_is_doubted(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    logits = random.normal(0, 3, (300, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (random.random((300, 1)) > shares.cumsum(axis=1)).sum(axis=1).clip(max=2)
    np.savez(tmp_path / "rows.npz", y=logits, truth=np.array(LABELS)[truth])
    plan(tmp_path, Y)
    flags = ("--truth", "truth", "--alpha", "0.1", "--method")
    result = run(tmp_path, "processing.json", "rows.npz", *flags, "isotonic")
    assert result.exit_code == 0
    few, worse = result.stderr.splitlines()
    assert few == (
        "penstock: warning: isotonic has learned from 150 rows, and needs 1000 or so: take more rows, or --method "
        "temperature, which learns one number"
    )
    assert worse.startswith("penstock: warning: isotonic makes probabilities worse than they were, ")
    plan(tmp_path, Y)
    assert run(tmp_path, "processing.json", "rows.npz", *flags, "temperature").stderr == ""
    np.savez(tmp_path / "five.npz", y=logits[:12], truth=np.array(LABELS)[truth[:12]])
    plan(tmp_path, Y)
    result = run(tmp_path, "processing.json", "five.npz", "--truth", "truth", "--alpha", "0.1")
    assert result.exit_code == 0
    assert "what --alpha and --precision have learned is from 12 rows, and needs 100 or so" in result.stderr


def test_scores_that_are_neither_probabilities_nor_logits_are_doubted(tmp_path: Path) -> None:
    logits, truth = drawn(400)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for scores, doubted in ((shares * 3, True), (shares, False), (logits, False)):
        np.savez(tmp_path / "rows.npz", y=scores, truth=np.array(LABELS)[truth])
        plan(tmp_path, PROBABLE)
        result = run(tmp_path, "processing.json", "rows.npz", "--truth", "truth", "--method", "platt")
        assert result.exit_code == 0
        assert ("rows of y are no probabilities: the first has " in result.stderr) is doubted
        assert ("adds up to 3. Look at what wrote the table" in result.stderr) is doubted


def test_probabilities_that_are_called_logits_of_two_classes_are_doubted(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    shares = random.random(300)
    np.savez(tmp_path / "rows.npz", y=shares, truth=(random.random(300) < shares).astype(int))
    plan(tmp_path, {"y": {"scores": "sigmoid"}})
    result = run(tmp_path, "processing.json", "rows.npz", "--truth", "truth", *METHOD)
    assert result.exit_code == 0
    assert "answer.y.scores is sigmoid, which is for logits, and every row of y is from 0 to 1" in result.stderr
