"""What is read from an exported program: names, element types, shapes, what may vary; and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.export import Dim

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import TensorSpec
from tests.formats.networks import exported, run

pytestmark = [
    pytest.mark.formats,
    # PyTorch's own, about itself.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BATCH, LENGTH = Dim("batch"), Dim("length")


def opened(path: Path, *lengths: int, convert: str = "none") -> Backend:
    return open_backend(path, "auto", LoadOptions(lengths=lengths, convert=convert))


class Tokens(torch.nn.Module):
    """Token ids of any length and one number per row; a state per token and a mean over the row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embedding = torch.nn.Embedding(50, 8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.embedding(ids)
        states, _ = self.attention(states, states, states, need_weights=False)
        return {"states": states, "mean": states.mean(1) * scale[:, None]}


def tokens(folder: Path, **bounds: Any) -> tuple[Path, torch.nn.Module]:
    net = Tokens().eval()
    example = (torch.ones(3, 5, dtype=torch.int64), torch.ones(3))
    shapes = ({0: BATCH, 1: Dim("length", **bounds)}, {0: BATCH})
    return exported(folder / "tokens.pt2", net, *example, dynamic_shapes=shapes), net


@pytest.mark.parametrize("convert", ["none", "compile", "aot-inductor"])
def test_rows_that_vary_in_length(convert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, net = tokens(tmp_path)
    backend = opened(path, 4, 8, convert=convert)
    assert backend.spec.inputs == (TensorSpec("ids", "int64", (8,), True), TensorSpec("scale", "float32", ()))
    assert backend.spec.outputs == (TensorSpec("states", "float32", (8, 8), True), TensorSpec("mean", "float32", (8,)))
    random = np.random.default_rng(0)
    for rows, length in [(1, 4), (3, 8), (8, 8), (5, 4), (4, 4)]:
        ids, scale = random.integers(0, 50, (rows, length)), random.random(rows, np.float32)
        with torch.inference_mode():
            expected = net(torch.from_numpy(ids), torch.from_numpy(scale))
        states, mean = run(backend, ids, scale)
        np.testing.assert_allclose(states, expected["states"].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(mean, expected["mean"].numpy(), rtol=1e-5, atol=1e-6)


def test_lengths_must_fit_the_program(tmp_path: Path) -> None:
    path, _ = tokens(tmp_path, min=4, max=64)
    with pytest.raises(ModelLoadError, match="'ids' varies in its second dimension: set lengths"):
        opened(path)
    for lengths in [(2, 8), (8, 128)]:
        with pytest.raises(ModelLoadError, match="exported for lengths from 4 to 64"):
            opened(path, *lengths)
    assert opened(path, 4, 64).spec.varies


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    linear = torch.nn.Linear(4, 3)
    program = torch.export.export(linear, (torch.zeros(8, 4),))
    torch.export.save(program, tmp_path / "fixed.pt2")
    backend = opened(tmp_path / "fixed.pt2")
    assert backend.spec.max_batch_size == 8
    assert backend.spec.outputs == (TensorSpec("output", "float32", (3,)),)
    rows = np.random.default_rng(1).random((8, 4), np.float32)
    for count in (8, 3, 1):
        with torch.inference_mode():
            expected = linear(torch.from_numpy(rows[:count])).numpy()
        np.testing.assert_allclose(run(backend, rows[:count])[0], expected, rtol=1e-6, atol=1e-6)


def test_a_batch_with_bounds(tmp_path: Path) -> None:
    shapes = ({0: Dim("batch", min=4, max=16)},)
    path = exported(tmp_path / "m.pt2", torch.nn.Linear(4, 3), torch.zeros(5, 4), dynamic_shapes=shapes)
    backend = opened(path)
    assert backend.spec.max_batch_size == 16
    rows = np.ones((2, 4), np.float32)
    np.testing.assert_array_equal(run(backend, rows)[0], run(backend, np.ones((4, 4), np.float32))[0][:2])


class Nested(torch.nn.Module):
    def forward(self, x: torch.Tensor, half: bool, *, more: dict[str, torch.Tensor]) -> Any:
        total = x.sum(1) + more["y"]
        return {"a": [total, (total * 2).to(torch.bfloat16)], "b": (total > 0 if half else total)}


def test_arguments_that_nest_and_results_that_do(tmp_path: Path) -> None:
    program = torch.export.export(
        Nested(),
        (torch.zeros(3, 4), True),
        {"more": {"y": torch.zeros(3)}},
        dynamic_shapes={"x": {0: BATCH}, "half": None, "more": {"y": {0: BATCH}}},
    )
    torch.export.save(program, tmp_path / "nested.pt2")
    backend = opened(tmp_path / "nested.pt2")
    assert [spec.name for spec in backend.spec.inputs] == ["x", "more_y"]
    # NumPy has no bfloat16: it is served as float32.
    assert [spec.dtype for spec in backend.spec.outputs] == ["float32", "float32", "bool"]
    x, y = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32), np.ones(5, np.float32)
    total, double, positive = run(backend, x, y)
    np.testing.assert_allclose(total, x.sum(1) + 1, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(double, 2 * total, rtol=1e-2)
    np.testing.assert_array_equal(positive, total > 0)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_each_element_type(dtype: str, tmp_path: Path) -> None:
    class Flip(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flip(1)

    path = exported(tmp_path / "flip.pt2", Flip(), torch.zeros(3, 4, dtype=getattr(torch, dtype)))
    rows = np.arange(8).reshape(2, 4).astype(dtype)
    backend = opened(path)
    assert backend.spec.inputs[0].dtype == backend.spec.outputs[0].dtype == dtype
    np.testing.assert_array_equal(run(backend, rows)[0], rows[:, ::-1])


class Refused(torch.nn.Module):
    """What has no rows of a batch, or none that can cross the ring."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> Any:
        results = {
            "total": lambda: x.sum(),
            "transposed": lambda: x.t(),
            "square": lambda: x @ x.t(),
            "complex": lambda: torch.complex(x, x),
            "doubled": lambda: torch.cat([x, x], 1),
            "number": lambda: (x, 3),
        }
        return results[self.kind]()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("total", r"output 'output' has shape \[\]: its first dimension must be the batch"),
        ("transposed", r"output 'output' has shape \[4, s\d+\]: its first dimension must be the batch"),
        ("square", r"output 'output' has shape \[s\d+, s\d+\]: behind the batch only the inputs' length"),
        ("complex", r"output 'output' is torch\.complex64, which Penstock cannot serve"),
        ("number", "output 'output_1' is no tensor"),
    ],
)
def test_outputs_that_no_row_can_hold(kind: str, said: str, tmp_path: Path) -> None:
    path = exported(tmp_path / "m.pt2", Refused(kind), torch.zeros(3, 4))
    with pytest.raises(ModelLoadError, match=said):
        opened(path)


def test_dimensions_that_may_not_vary(tmp_path: Path) -> None:
    doubled = exported(
        tmp_path / "doubled.pt2", Refused("doubled"), torch.zeros(3, 4), dynamic_shapes=({0: BATCH, 1: LENGTH},)
    )
    with pytest.raises(ModelLoadError, match="behind the batch only the inputs' length may vary"):
        opened(doubled, 4, 8)
    third = exported(
        tmp_path / "third.pt2", torch.nn.Identity(), torch.zeros(3, 4, 5), dynamic_shapes=({0: BATCH, 2: LENGTH},)
    )
    with pytest.raises(ModelLoadError, match="dimension 2 of input 'input' has no fixed size"):
        opened(third, 4, 8)
    even = Dim("half")
    pairs = exported(tmp_path / "pairs.pt2", torch.nn.Identity(), torch.zeros(4, 3), dynamic_shapes=({0: 2 * even},))
    with pytest.raises(ModelLoadError, match="export it with a batch of any size"):
        opened(pairs)
    with pytest.raises(ModelLoadError, match="lengths is set, but no input of the model varies"):
        opened(exported(tmp_path / "plain.pt2", torch.nn.Linear(4, 3), torch.zeros(3, 4)), 4, 8)


def test_inputs_of_several_batches(tmp_path: Path) -> None:
    class Both(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y.sum()

    program = torch.export.export(
        Both(), (torch.zeros(3, 4), torch.zeros(5, 4)), dynamic_shapes=({0: BATCH}, {0: Dim("other")})
    )
    torch.export.save(program, tmp_path / "both.pt2")
    with pytest.raises(ModelLoadError, match="different first dimensions"):
        opened(tmp_path / "both.pt2")


def test_many_kinds_of_layers_pass_the_vetting(tmp_path: Path) -> None:
    torch.manual_seed(1)
    image = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.BatchNorm2d(8),
        torch.nn.GELU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(32, 5),
        torch.nn.LayerNorm(5),
        torch.nn.Softmax(1),
    ).eval()
    path = exported(tmp_path / "image.pt2", image, torch.zeros(3, 3, 16, 16))
    rows = np.random.default_rng(4).random((4, 3, 16, 16), np.float32)
    with torch.inference_mode():
        expected = image(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(run(opened(path), rows)[0], expected, rtol=1e-5, atol=1e-6)
