"""TensorFlow models through the real server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Server

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def made() -> Any:
    """The makers of models."""
    from penstock.worker.backends.tensorflow.runtime import start_tensorflow

    start_tensorflow(1)
    from tests.formats import tensorflow_models

    return tensorflow_models


def test_a_saved_model_and_a_keras_file_answer_alike(made: Any, serve: Callable[..., Server], tmp_path: Path) -> None:
    model = made.classifier()
    model.save(tmp_path / "model.keras")
    server = serve(models={"saved": made.export(model, tmp_path / "saved"), "keras": tmp_path / "model.keras"})
    rows = made.rows(4, 4)
    for row, expected in zip(rows, model.predict(rows, verbose=0), strict=True):
        for name, output in (("saved", "output_0"), ("keras", "probabilities")):
            reply = server.predict(model=name, inputs=row.tolist())
            assert reply.status == 200, reply.body
            assert reply.json()["outputs"][output] == pytest.approx(expected.tolist(), rel=1e-5)
    log = server.log.read_text()
    assert "oneDNN" not in log and "absl" not in log, "TensorFlow chatters"


def test_golden_rows_hold_for_tensorflow(made: Any, serve: Callable[..., Server], tmp_path: Path) -> None:
    import json

    model = made.classifier()
    folder = made.export(model, tmp_path / "saved")
    rows = made.rows(5, 4)
    expected = model.predict(rows, verbose=0).tolist()
    golden = {"inputs": {"features": rows.tolist()}, "outputs": {"output_0": expected}}
    (folder / "golden.json").write_text(json.dumps(golden))
    assert serve(models={"good": folder}).predict(inputs=[1, 2, 3, 4]).status == 200
    expected[2][0] += 0.01
    (folder / "golden.json").write_text(json.dumps(golden))
    with pytest.raises(AssertionError, match=r"row 2, output 'output_0'\[0\]: expected .*; 1 of 5 rows differ"):
        serve(models={"wrong": folder})
