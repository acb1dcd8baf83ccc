"""The answer of a plan: what it says, and what is said of one that is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile
from penstock.processing.answers.answer import read_answer
from penstock.processing.answers.classes import Classes
from penstock.processing.plan import read_plan
from penstock.worker.answers import Answers
from penstock.worker.model import ModelSpec, TensorSpec

SOFTMAX = {"scores": "softmax"}


def refusal(tmp_path: Path, answer: Any) -> str:
    file = tmp_path / "processing.json"
    file.write_text(json.dumps({"format": 1, "answer": answer}))
    with pytest.raises(ModelLoadError) as raised:
        read_plan(file)
    return str(raised.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("softmax", 'answer.y is "softmax": it must be an object, {...}'),
        ({"drop": False}, "answer.y.drop is false: leave the output out, and it stays as it is"),
        (SOFTMAX | {"drop": True}, "answer.y has a member 'scores', which means nothing: it can be drop"),
        ({"scores": "soft"}, 'answer.y.scores is "soft": it must be one of softmax, sigmoid, none'),
        (
            SOFTMAX | {"label": True},
            "answer.y has a member 'label', which means nothing: it can be scores, name, multilabel, labels, "
            "calibration, confidence, give, top, threshold, cut, abstain, conformal",
        ),
        (SOFTMAX | {"labels": ["a", "a"]}, 'answer.y.labels[1] is "a" for the second time'),
        (SOFTMAX | {"labels": [1, "1"]}, 'answer.y.labels[1] is "1" for the second time'),
        (
            SOFTMAX | {"calibration": {"isotonic": {"x": [0, 1], "y": [0, 2]}}},
            "answer.y.calibration.isotonic.y has a number that is no probability: they are from 0 to 1",
        ),
        (SOFTMAX | {"labels": [1.5]}, "answer.y.labels[0] is 1.5: a label is a string or a whole number"),
        (
            SOFTMAX | {"calibration": {"temperature": 1, "platt": [1, 0]}},
            "answer.y.calibration has temperature and platt: one of them is enough",
        ),
        (
            SOFTMAX | {"calibration": {"temperature": 0}},
            "answer.y.calibration.temperature is 0: it must be more than 0",
        ),
        (
            SOFTMAX | {"calibration": {"platt": [1, 2, 3]}},
            "answer.y.calibration.platt has 3 numbers: a and b are two",
        ),
        (
            SOFTMAX | {"calibration": {"platt": [[1, 2], [1]]}},
            "answer.y.calibration.platt[1] has 1 numbers: a and b are two",
        ),
        (
            SOFTMAX | {"calibration": {"isotonic": {"x": [0, 0], "y": [0, 1]}}},
            "answer.y.calibration.isotonic.x does not ascend: each must be more than the one before it",
        ),
        (
            SOFTMAX | {"calibration": {"isotonic": [{"x": [0, 1], "y": [0]}]}},
            "answer.y.calibration.isotonic[0] has 2 x and 1 y: each point has both",
        ),
        (SOFTMAX | {"threshold": 1.5}, "answer.y.threshold is 1.5: it must be from 0 to 1"),
        (
            SOFTMAX | {"labels": ["a", "b"], "threshold": {"c": 0.5}},
            "answer.y.threshold has a member 'c', which is no label: they are a, b",
        ),
        (
            SOFTMAX | {"give": ["top_labels"]},
            "answer.y.give[0] is 'top_labels', which needs the member 'top'",
        ),
        (SOFTMAX | {"give": ["label", "label"]}, "answer.y.give[1] is 'label' for the second time"),
        (
            SOFTMAX | {"give": ["labels"]},
            'answer.y.give[0] is "labels": it must be one of label, confidence, probabilities, top_labels, '
            "top_scores, abstained, reason, set, set_size",
        ),
        (SOFTMAX | {"top": 0}, "answer.y.top is 0: it must be a whole number from 1 on"),
        (
            SOFTMAX | {"conformal": {"rule": "lac", "alpha": 1, "quantile": 0.9}},
            "answer.y.conformal.alpha is 1: it must be between 0 and 1, the share that may be wrong",
        ),
        (
            SOFTMAX | {"multilabel": True},
            "answer.y.scores is softmax, whose classes exclude each other: multilabel takes sigmoid",
        ),
        (
            {"scores": "sigmoid", "multilabel": True, "threshold": 0.5},
            "answer.y.threshold is for one label of several, and with multilabel each has its own: cut chooses them",
        ),
        (
            {"inverse": [{"clip": "bounds", "low": 0}]},
            'answer.y.inverse[0] is {"clip": "bounds", "low": 0}: only scale, log and power can be undone',
        ),
        (
            {"inverse": [{"scale": "standard", "center": 1}]},
            "answer.y.inverse[0] has no member 'width': only with its numbers can it be undone",
        ),
        (
            {"inverse": [{"scale": "min-max", "factor": 0, "offset": 1}]},
            "answer.y.inverse[0].factor is 0: that cannot be undone",
        ),
        ({"minimum": 2, "maximum": 1}, "answer.y.minimum is 2, which is above maximum 1"),
        ({"round": 16}, "answer.y.round is 16: a float64 has no more than 15 decimals"),
        (
            {"cast": "bool"},
            'answer.y.cast is "bool": it must be one of float16, float32, float64, int8, int16, int32, int64, uint8, '
            "uint16, uint32, uint64",
        ),
        (
            {"interval": {"alpha": 0.1, "quantile": -1}},
            "answer.y.interval.quantile is -1: it must be 0 or more",
        ),
        ({"columns": [{"unit": "m"}]}, "answer.y.columns[0] has no member 'name', what its output is called"),
        ({"columns": ["a"], "unit": "m"}, "answer.y has a member 'unit', which means nothing: it can be columns"),
        ({"shape": [0]}, "answer.y.shape[0] is 0: it must be a whole number from 1 on"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, part: Any, text: str) -> None:
    assert refusal(tmp_path, {"y": part}) == text


def outputs(*tensors: tuple[str, str, tuple[int, ...]], varies: bool = False) -> ModelSpec:
    made = tuple(TensorSpec(name, dtype, shape, varies) for name, dtype, shape in tensors)
    return ModelSpec((TensorSpec("x", "float32", (1,)),), made)


def fitted(answer: Any, spec: ModelSpec) -> Answers:
    reading = WrittenFile(Path("p.json"), "plan", 1000)
    return Answers(Path("p.json"), read_answer(reading, answer), spec)


Y3 = ("y", "float32", (3,))


@pytest.mark.parametrize(
    ("answer", "spec", "text"),
    [
        ({"z": SOFTMAX}, outputs(Y3), "answer.z is no output of the model: it has y"),
        ({"y": {"drop": True}}, outputs(Y3), "the answer has no outputs: one must not be dropped"),
        (
            {"y": {"name": "z"}},
            outputs(Y3, ("z", "int64", ())),
            "the answer has two outputs 'z', made of the model's 'y' and 'z': drop the one with "
            '"z": {"drop": true} in "answer", or give the other another name with "y": {"name": "..."} in "answer"',
        ),
        (
            {"probabilities": SOFTMAX},
            outputs(("label", "int64", ()), ("probabilities", "float32", (3,))),
            "the answer has two outputs 'label', made of the model's 'label' and 'probabilities': drop the one with "
            '"label": {"drop": true} in "answer", or give the other another name with "probabilities": '
            '{"name": "..."} in "answer"',
        ),
        (
            {"y": {"columns": ["a", "a", "b"]}},
            outputs(Y3),
            "the answer has two outputs 'a', both made of 'y': give one another name, or drop it",
        ),
        ({"y": SOFTMAX | {"labels": ["a"]}}, outputs(Y3), "answer.y.labels are 1, and the model has 3 classes"),
        (
            {"y": SOFTMAX | {"abstain": "unsure"}},
            outputs(Y3),
            "answer.y.abstain needs a threshold: learn it with penstock calibrate, or give it",
        ),
        ({"y": SOFTMAX | {"top": 4}}, outputs(Y3), "answer.y.top is 4, and the model has 3 classes"),
        (
            {"y": SOFTMAX},
            outputs(("y", "float32", ())),
            "answer.y.scores is softmax, and the model has one score a row: that takes sigmoid",
        ),
        (
            {"y": {"scores": "sigmoid"}},
            outputs(Y3),
            "answer.y.scores is sigmoid, and the model has several scores a row: say multilabel, or softmax if one "
            "label is right",
        ),
        (
            {"y": SOFTMAX},
            outputs(("y", "int64", (3,))),
            "answer.y has scores, and is int64: they are float16, float32, float64",
        ),
        (
            {"y": SOFTMAX},
            outputs(("y", "str", (3,))),
            "answer.y holds strings: it can have another name, or be dropped",
        ),
        (
            {"y": SOFTMAX},
            outputs(Y3, varies=True),
            "answer.y varies in length: it can have another name, and nothing else",
        ),
        (
            {"y": SOFTMAX | {"cut": 0.3}},
            outputs(Y3),
            "answer.y.cut is for two classes or multilabel, and the model has 3 classes",
        ),
        (
            {"y": {"scores": "sigmoid", "labels": ["no", "yes"], "cut": {"no": 0.3}}},
            outputs(("y", "float32", ())),
            "answer.y.cut is, for two classes, one number: that of 'yes'",
        ),
        (
            {"y": SOFTMAX | {"calibration": {"platt": [1, 0]}}},
            outputs(Y3),
            "answer.y.calibration is for 1 classes, and the model has 3",
        ),
        (
            {"y": SOFTMAX | {"threshold": {"cat": 0.5}}},
            outputs(Y3),
            "answer.y.threshold is for 'cat', which is no label: 0, 1, 2",
        ),
        (
            {"y": SOFTMAX | {"conformal": {"rule": "lac", "alpha": 0.1}}},
            outputs(Y3),
            "answer.y.conformal has no 'quantile': learn it with penstock calibrate, or give it",
        ),
        (
            {"y": {"interval": {"alpha": 0.1}}},
            outputs(Y3),
            "answer.y.interval has no 'quantile': learn it with penstock calibrate, or give it",
        ),
        (
            {"y": {"shape": [2, 2]}},
            outputs(Y3),
            "answer.y.shape is [2, 2], and a row is [3]: elements must be as many",
        ),
        (
            {"y": {"columns": ["a", "b", "c", "d"]}},
            outputs(Y3),
            "answer.y.columns are 4, and the model has 3",
        ),
        (
            {"y": {"columns": ["a", {"drop": True}]}},
            outputs(Y3),
            "answer.y.columns are 2, and the model has 3",
        ),
        (
            {"y": {"interval": {"alpha": 0.1, "quantile": 1, "by": "sigma"}}},
            outputs(Y3),
            "answer.y.interval.by is 'sigma', which is no output of the model: it has y",
        ),
        (
            {"y": {"interval": {"alpha": 0.1, "quantile": 1, "by": "n"}}},
            outputs(Y3, ("n", "int64", ())),
            "answer.y.interval.by is 'n', which is int64: it must be floats of a fixed shape",
        ),
        (
            {"y": {"interval": {"alpha": 0.1, "quantile": 1, "by": "n"}}},
            outputs(Y3, ("n", "float32", (2,))),
            "answer.y does not fit the model: what an interval is scaled by has one element, or as many",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_named(answer: Any, spec: ModelSpec, text: str) -> None:
    with pytest.raises(ModelLoadError) as raised:
        fitted(answer, spec)
    assert str(raised.value) == f"p.json: {text}"


def test_outputs_are_those_asked_for() -> None:
    spec = outputs(("y", "float64", (2,)), ("n", "int64", (4,)), ("z", "float32", ()), ("left", "float32", (2,)))
    answer = fitted(
        {
            "y": {"scores": "softmax", "name": "kind", "threshold": 0.5, "top": 2, "give": ["label", "probabilities"]},
            "n": {"shape": [2, 2], "name": "grid", "unit": "m"},
            "z": {"cast": "int32", "interval": {"alpha": 0.1, "quantile": 2}, "unit": "EUR"},
            "left": {"columns": ["a", {"drop": True}]},
        },
        spec,
    )
    assert answer.outputs == [
        TensorSpec("kind_label", "str", ()),
        TensorSpec("kind_probabilities", "float64", (2,)),
        TensorSpec("grid", "int64", (2, 2), unit="m"),
        TensorSpec("z", "int32", (), unit="EUR"),
        TensorSpec("z_low", "int32", (), unit="EUR"),
        TensorSpec("z_high", "int32", (), unit="EUR"),
        TensorSpec("a", "float32", ()),
    ]
    assert answer.labels == {"kind_probabilities": ("0", "1")}


def test_without_give_members_say_what_is_given(tmp_path: Path) -> None:
    reading = WrittenFile(tmp_path / "p.json", "plan", 1000)

    def given(**members: Any) -> tuple[str, ...]:
        part = read_answer(reading, {"y": members})["y"][0]
        assert isinstance(part, Classes)
        return part.give

    assert given(scores="softmax") == ("label", "confidence")
    assert given(scores="softmax", top=2) == ("label", "confidence", "top_labels", "top_scores")
    assert given(scores="none", threshold=0.5) == ("label", "confidence", "abstained", "reason")
    conformal = {"rule": "aps", "alpha": 0.1, "quantile": 0.9}
    assert given(scores="none", conformal=conformal) == ("label", "confidence", "set", "set_size")
    assert given(scores="sigmoid", multilabel=True) == ("labels", "count")


def test_labels_are_the_models_unless_the_plan_has_some() -> None:
    tensors = outputs(("y", "float32", (2,)))
    spec = ModelSpec(tensors.inputs, tensors.outputs, labels={"y": (3, "dog")})
    for labels, expected in (([], ["dog", "3"]), (["a", "b"], ["b", "a"])):
        answer = fitted({"y": {"scores": "softmax", "labels": labels, "give": ["label"]}}, spec)
        result = np.empty(2, object)
        answer.run(lambda inputs, to, lengths: np.copyto(to[0], [[0, 1], [1, 0]]), [], [result])
        assert result.tolist() == expected
