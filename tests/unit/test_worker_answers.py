"""Models with an answer and no record: what they take stays theirs, what they give is the plan's."""

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, room
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import NoNumberError, TensorSpec
from penstock.worker.planned import with_plan
from penstock.worker.warmup import warm_up

TAGGER = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"ids": Tensor("int64", (None,))}
        outputs = {"states": Tensor("float32", (None,)), "logits": Tensor("float32", (2,)), "text": Tensor("str")}

        def predict(self, batch, lengths):
            ids = batch["ids"]
            logits = np.stack([ids.sum(axis=1), -ids.sum(axis=1)], axis=1) / np.float32(2)
            return {"states": ids, "logits": logits, "text": ["x"] * len(ids)}
"""
COSINE = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (2,))}
        outputs = {"cosine": Tensor("float32", (2,))}

        def predict(self, batch):
            x = batch["x"]
            with np.errstate(invalid="ignore"):
                return {"cosine": x / np.linalg.norm(x, axis=1, keepdims=True)}
"""


def model(tmp_path: Path, source: str, answer: dict[str, Any], lengths: tuple[int, ...] = ()) -> Backend:
    (tmp_path / "model.py").write_text(textwrap.dedent(source))
    (tmp_path / "processing.json").write_text(json.dumps({"format": 1, "answer": answer}))
    return with_plan(open_backend(tmp_path, "auto", LoadOptions(lengths=lengths)), tmp_path)


def ask(backend: Backend, rows: Array, lengths: Array | None = None) -> dict[str, Any]:
    length = rows.shape[1]
    outputs = [room((len(rows), *of.shape_at(length)), of.dtype) for of in backend.spec.outputs]
    backend.run([rows], outputs, lengths)
    return {of.name: output.tolist() for of, output in zip(backend.spec.outputs, outputs, strict=True)}


def test_rows_that_vary_in_length_are_classified(tmp_path: Path) -> None:
    answer = {
        "states": {"name": "tokens"},
        "logits": {"scores": "softmax", "labels": ["up", "down"], "give": ["label"]},
        "text": {"drop": True},
    }
    backend = model(tmp_path, TAGGER, answer, lengths=(2, 4))
    assert backend.spec.inputs == (TensorSpec("ids", "int64", (4,), varies=True),)
    assert backend.spec.outputs == (
        TensorSpec("tokens", "float32", (4,), varies=True),
        TensorSpec("label", "str", ()),
    )
    for ids in ([[1, 2], [-3, 0]], [[1, 2, 3, 0], [0, 0, -1, 0], [5, 0, 0, 0]], [[-1, 0]]):
        rows = np.array(ids)
        got = ask(backend, rows, np.full(len(rows), rows.shape[1], np.int32))
        assert got == {"tokens": ids, "label": ["up" if sum(row) > 0 else "down" for row in ids]}


def test_a_plan_of_names_alone_computes_nothing(tmp_path: Path) -> None:
    backend = model(tmp_path, COSINE, {"cosine": {"name": "direction", "unit": "1", "shape": [1, 2]}})
    assert backend.spec.outputs == (TensorSpec("direction", "float32", (1, 2), unit="1"),)
    got = ask(backend, np.float32([[3, 4], [0, 0]]))["direction"]
    assert got[0] == [[np.float32(0.6), np.float32(0.8)]]
    assert np.isnan(got[1]).all()


def test_zeros_that_a_model_makes_nan_of_do_not_keep_it_from_serving(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = model(tmp_path, COSINE, {"cosine": {"scores": "softmax"}})
    assert len(warm_up(backend, [1, 4], 0.01)) >= 2
    assert "of 4 rows of zeros: output 'cosine' of the model is no number (NaN)" in caplog.text
    assert ask(backend, np.float32([[3, 4]]))["label"] == ["1"]
    with pytest.raises(NoNumberError, match="output 'cosine' of the model is no number"):
        ask(backend, np.float32([[3, 4], [0, 0]]))


def test_what_is_not_learned_yet_is_not_served(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="has no 'quantile': learn it with penstock calibrate"):
        model(tmp_path, COSINE, {"cosine": {"scores": "softmax", "conformal": {"rule": "aps", "alpha": 0.1}}})
