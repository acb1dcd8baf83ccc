"""Plain Python models: how they are loaded, what they may return, and what is said when something is missing."""

import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import BadOutputError, TensorSpec
from penstock.worker.warmup import warm_up

HEAD = "import numpy as np\nfrom penstock.worker import Tensor\n"


def opened(tmp_path: Path, source: str, name: str = "model.py", lengths: Sequence[int] = ()) -> Backend:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(HEAD + textwrap.dedent(source))
    return open_backend(path, "auto", LoadOptions(lengths=lengths))


def predicting(tmp_path: Path, body: str, outputs: str = '{"y": Tensor("float32", (2,))}') -> Backend:
    return opened(
        tmp_path,
        f"""
        class Model:
            inputs = {{"x": Tensor("float32", (2,))}}
            outputs = {outputs}

            def predict(self, batch):
                x = batch["x"]
                {body}
        """,
    )


def run(backend: Backend, rows: int = 3) -> list[Array]:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    x.flags.writeable = False
    outputs = [np.zeros((rows, *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run([x], outputs)
    return outputs


def test_a_model_is_read_as_it_is_now(tmp_path: Path) -> None:
    """Python tells cached bytecode apart by size and whole second, so an edit may go unseen."""
    predicting(tmp_path, "return {}", '{"y": Tensor("float32")}')
    path = tmp_path / "model.py"
    written = path.stat()
    path.write_text(path.read_text().replace('"y": Tensor("float32")', '"y": Tensor("float64")'))
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert open_backend(path, "auto", LoadOptions()).spec.outputs == (TensorSpec("y", "float64", ()),)
    assert not (tmp_path / "__pycache__").exists()


def test_schema_load_and_predict(tmp_path: Path) -> None:
    backend = opened(
        tmp_path,
        """
        class Model:
            inputs = {"a": Tensor("float32", (2,)), "b": Tensor("int8")}
            outputs = {"sum": Tensor("float32")}
            max_batch_size = 8

            def load(self):
                self.bias = 10

            def predict(self, batch):
                return {"sum": batch["a"].sum(axis=1) + batch["b"] + self.bias}
        """,
    )
    assert backend.spec.inputs == (TensorSpec("a", "float32", (2,)), TensorSpec("b", "int8", ()))
    assert backend.spec.outputs == (TensorSpec("sum", "float32", ()),)
    assert backend.spec.max_batch_size == 8
    assert not backend.rerun
    total = np.zeros(2, np.float32)
    backend.run([np.float32([[1, 2], [3, 4]]), np.int8([1, 2])], [total])
    np.testing.assert_array_equal(total, [14, 19])


@pytest.mark.parametrize(
    "body", ["return x", 'return {"y": x}', "return x.tolist()", "return list(x)", "return x.astype(np.float64)"]
)
def test_what_predict_may_return(tmp_path: Path, body: str) -> None:
    (y,) = run(predicting(tmp_path, body))
    np.testing.assert_array_equal(y, [[0, 1], [2, 3], [4, 5]])


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("return x[:2]", r"output 'y' has shape \(2, 2\), expected \(3, 2\)"),
        ("return x[:, :1]", r"output 'y' has shape \(3, 1\), expected \(3, 2\)"),
        ("return x.astype(complex)", "output 'y' is complex128, expected float32"),
        ("return x.astype(str)", "output 'y' is <U32, expected float32"),
        ("return [[1.0], [2.0, 3.0], []]", "output 'y' is no array"),
        ("return None", r"output 'y' has shape \(\)"),
        ("return {}", "predict returned no output 'y'"),
        ('return {"y": x, "z": x}', "'z', which is no output"),
    ],
)
def test_bad_outputs(tmp_path: Path, body: str, text: str) -> None:
    with pytest.raises(BadOutputError, match=text):
        run(predicting(tmp_path, body))


def test_types_that_do_not_fit_are_not_bent(tmp_path: Path) -> None:
    outputs = '{"y": Tensor("uint8", (2,))}'
    (y,) = run(predicting(tmp_path, "return x.astype(int).tolist()", outputs))
    np.testing.assert_array_equal(y, [[0, 1], [2, 3], [4, 5]])
    for body in ("return x", "return x.astype(int) - 1", "return x.astype(int) + 255"):
        with pytest.raises(BadOutputError, match=r"output 'y' is (float32|int64), expected uint8"):
            run(predicting(tmp_path, body, outputs))


def test_several_outputs_need_a_dict(tmp_path: Path) -> None:
    outputs = '{"y": Tensor("float32", (2,)), "z": Tensor("float32")}'
    y, z = run(predicting(tmp_path, 'return {"z": x[:, 0], "y": x}', outputs))
    np.testing.assert_array_equal(y, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(z, [0, 2, 4])
    with pytest.raises(BadOutputError, match="expected a dict of 2 outputs"):
        run(predicting(tmp_path, "return x", outputs))


def test_a_model_cannot_write_into_its_inputs(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="read-only"):
        run(predicting(tmp_path, "x += 1; return x"))


@pytest.mark.parametrize("name", ["pack/__init__.py", "pack/model.py"])
def test_a_folder_with_modules_beside_the_model(tmp_path: Path, name: str) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "beside.py").write_text("FACTOR = 7\n")
    (tmp_path / name).write_text(
        f"{HEAD}from beside import FACTOR\n"
        "class Model:\n"
        '    inputs = {"x": Tensor("float32", (2,))}\n'
        '    outputs = {"y": Tensor("float32", (2,))}\n'
        "    def predict(self, batch):\n"
        '        return batch["x"] * FACTOR\n'
    )
    (y,) = run(open_backend(tmp_path / "pack", "auto", LoadOptions()))
    np.testing.assert_array_equal(y, [[0, 7], [14, 21], [28, 35]])


VALID = 'inputs = {"x": Tensor("float32", (2,))}\n    outputs = inputs\n    def predict(self, batch): return batch["x"]'


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1", r"has no class Model[\s\S]*def predict"),
        ("Model = 3", "has no class Model"),
        ("class Model:\n    pass", r"no method predict[\s\S]*def predict"),
        ("class Model:\n    def predict(self, batch): ...", r"Model.inputs .* must be a dict[\s\S]*inputs ="),
        (f"class Model:\n    {VALID}\n    outputs = {{}}", "Model.outputs .* must be a dict"),
        (f"class Model:\n    {VALID}\n    inputs = {{'x': 'float32'}}", r"Model.inputs\['x'\] .* must be a Tensor"),
        (f"class Model:\n    {VALID}\n    inputs = {{'x': Tensor('complex64')}}", "has dtype 'complex64'"),
        (f"class Model:\n    {VALID}\n    inputs = {{'x': Tensor('nonsense')}}", "must be a Tensor"),
        (f"class Model:\n    {VALID}\n    inputs = {{'x': Tensor('int8', (0,))}}", r"has shape \(0,\)"),
        (f"class Model:\n    {VALID}\n    inputs = {{3: Tensor('int8')}}", "name must be a string"),
        (f"class Model:\n    {VALID}\n    max_batch_size = 0", "max_batch_size .* must be a whole number"),
        (
            f"class Model:\n    {VALID}\n    def load(self): raise OSError('no disk')",
            "raised while it loaded: OSError: no disk",
        ),
        (
            f"class Model:\n    {VALID}\n    def load(self): raise SystemExit(3)",
            "raised while it loaded: SystemExit: 3",
        ),
        ("import no_such_module_here", r"cannot be imported: ModuleNotFoundError.*\(line 3\)"),
        ("def f(:", r"cannot be imported: SyntaxError.*\(line 3\)"),
        ("raise KeyboardInterrupt", r"cannot be imported: KeyboardInterrupt \(line 3\)"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, source: str, text: str) -> None:
    with pytest.raises(ModelLoadError, match=text):
        opened(tmp_path, source)


def test_a_folder_with_one_python_file_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "golden.json").write_text("{}")
    source = f"{HEAD}class Model:\n    {VALID}\n"
    (tmp_path / "times.py").write_text(source)
    (y,) = run(open_backend(tmp_path, "auto", LoadOptions()))
    np.testing.assert_array_equal(y, [[0, 1], [2, 3], [4, 5]])
    (tmp_path / "plus.py").write_text(source)
    with pytest.raises(ModelLoadError, match="nor a single Python file"):
        open_backend(tmp_path, "python", LoadOptions())


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="no model that Penstock knows"):
        open_backend(tmp_path, "auto", LoadOptions())


def test_models_of_one_process_keep_their_modules_apart(tmp_path: Path) -> None:
    for name, factor in (("one", 3), ("two", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "factor.py").write_text(f"FACTOR = {factor}\n")
        (tmp_path / name / "__init__.py").write_text(
            f"{HEAD}class Model:\n"
            '    inputs = {"x": Tensor("float32", (2,))}\n'
            '    outputs = {"y": Tensor("float32", (2,))}\n'
            "    def predict(self, batch):\n"
            "        from .factor import FACTOR\n"
            '        return batch["x"] * FACTOR\n'
        )
    backends = [open_backend(tmp_path / name, "auto", LoadOptions()) for name in ("one", "two")]
    for backend, factor in zip(backends, (3, 5), strict=True):
        np.testing.assert_array_equal(
            run(backend)[0], [[0, factor], [2 * factor, 3 * factor], [4 * factor, 5 * factor]]
        )


def test_warm_up_runs_each_size(tmp_path: Path) -> None:
    backend = opened(
        tmp_path,
        """
        SEEN = []
        class Model:
            inputs = {"x": Tensor("float32", (2,))}
            outputs = {"y": Tensor("float32", (2,))}
            def predict(self, batch):
                SEEN.append(len(batch["x"]))
                return batch["x"]
        """,
    )
    warm_up(backend, [1, 2, 12])
    assert sys.modules["penstock_model"].SEEN == [1, 2, 12]


def test_warm_up_forgives_a_model_that_refuses_zeros(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = predicting(tmp_path, "raise ValueError('zeros make no sense')")
    with caplog.at_level(logging.WARNING):
        warm_up(backend, [1, 4])
    assert "zeros make no sense" in caplog.text


def test_warm_up_finds_outputs_that_never_fit(tmp_path: Path) -> None:
    backend = predicting(tmp_path, "return x[:, :1]")
    with pytest.raises(ModelLoadError, match="output 'y' has shape"):
        warm_up(backend, [1, 4])


UNEVEN = """
    class Model:
        inputs = {"x": Tensor("float32", (None, 2))}
        outputs = {"y": Tensor("float32", (None,)), "n": Tensor("int64")}

        def predict(self, batch%s):
            %s
"""
X = np.float32([[[1, 2], [3, 4], [0, 0]], [[5, 6], [0, 0], [0, 0]]])


def run_uneven(backend: Backend) -> tuple[Array, Array]:
    y, n = np.full((2, 3), 9, np.float32), np.zeros(2, np.int64)
    backend.run([X], [y, n], np.int32([2, 1]))
    return y, n


def test_padded_rows_with_their_lengths(tmp_path: Path) -> None:
    body = 'return {"y": batch["x"].sum(axis=2), "n": lengths}'
    for parameters in (", lengths", ", *, lengths", ", lengths=None"):
        backend = opened(tmp_path, UNEVEN % (parameters, body), lengths=(2, 3))
        assert backend.spec.inputs == (TensorSpec("x", "float32", (3, 2), True),)
        assert backend.spec.outputs == (TensorSpec("y", "float32", (3,), True), TensorSpec("n", "int64", ()))
        y, n = run_uneven(backend)
        assert (y.tolist(), n.tolist()) == ([[3, 7, 0], [11, 0, 0]], [2, 1])
    y, _ = run_uneven(opened(tmp_path, UNEVEN % ("", body.replace("lengths", "[0, 0]")), lengths=(2, 3)))
    assert y.tolist() == [[3, 7, 0], [11, 0, 0]]


def test_ragged_rows(tmp_path: Path) -> None:
    body = 'return {"y": batch["x"].sum(axis=1), "n": np.diff(cu_seqlens)}'
    y, n = run_uneven(opened(tmp_path, UNEVEN % (", cu_seqlens", body), lengths=(2, 3)))
    assert (y.tolist(), n.tolist()) == ([[3, 7, 9], [11, 9, 9]], [2, 1])  # nobody reads what lies behind a row


@pytest.mark.parametrize("result", ['batch["x"][:, 0].reshape(1, -1)', 'batch["x"][:-1, 0]', "0"])
def test_ragged_outputs_have_an_element_for_each_of_the_inputs(tmp_path: Path, result: str) -> None:
    body = f'return {{"y": {result}, "n": [0, 0]}}'
    backend = opened(tmp_path, UNEVEN % (", cu_seqlens", body), lengths=(2, 3))
    with pytest.raises(BadOutputError, match=r"output 'y' has shape \(.*\), expected \(3,\)"):
        run_uneven(backend)


def test_what_a_length_needs_is_said(tmp_path: Path) -> None:
    source = UNEVEN % (", lengths, cu_seqlens", "return {}")
    with pytest.raises(ModelLoadError, match=r"Model\.inputs\['x'\] in .* varies in length: set lengths for the model"):
        opened(tmp_path, source)
    with pytest.raises(ModelLoadError, match="takes both lengths and cu_seqlens"):
        opened(tmp_path, source, lengths=(4,))
    fixed_input = source.replace("(None, 2)", "(2,)")
    with pytest.raises(ModelLoadError, match=r"an output of Model in .* varies in length and no input does"):
        opened(tmp_path, fixed_input, lengths=(4,))
    second = source.replace("(None, 2)", "(2, None)")
    with pytest.raises(ModelLoadError, match="must be a Tensor"):
        opened(tmp_path, second, lengths=(4,))
