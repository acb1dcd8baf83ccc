"""PyTorch models in flight on the host's thread, beside their own answers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from penstock.worker.backends import LoadOptions, open_backend
from penstock.worker.backends.torch_exported import call_of, moved
from penstock.worker.devices.backend import GraphBackend

pytestmark = [
    pytest.mark.formats,
    # PyTorch's own, about itself.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


def exported(folder: Path, rows: int | None = None) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)).eval()
    sizes = None if rows else ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (torch.zeros(rows or 4, 8),), dynamic_shapes=sizes)
    file = folder / "net.pt2"
    torch.export.save(program, str(file))
    return file, module


def opened(file: Path, **options: object) -> GraphBackend:
    backend = open_backend(file, "auto", LoadOptions(device="host", **options))  # type: ignore[arg-type]
    assert isinstance(backend, GraphBackend)
    return backend


@pytest.mark.parametrize("fixed", [None, 6])
def test_any_number_of_rows_is_run(tmp_path: Path, fixed: int | None) -> None:
    file, module = exported(tmp_path, fixed)
    backend = opened(file)
    assert backend.spec.max_batch_size == fixed
    backend.prepare(fixed or 64, (), ())
    for rows in (1, 5, 6) if fixed else (1, 2, 3, 37, 64):
        given = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
        found = np.empty((rows, 3), np.float32)
        backend.run([given], [found])
        assert np.allclose(found, module(torch.from_numpy(given)).detach().numpy(), rtol=1e-6, atol=1e-6)


def test_a_lower_precision_is_near(tmp_path: Path) -> None:
    file, module = exported(tmp_path)
    backend = opened(file, precision="bfloat16")
    backend.prepare(8, (), ())
    given = np.random.default_rng(1).standard_normal((8, 8)).astype(np.float32)
    found = np.empty((8, 3), np.float32)
    backend.run([given], [found])
    expected = module(torch.from_numpy(given)).detach().numpy()
    assert not np.array_equal(found, expected)
    assert np.allclose(found, expected, rtol=5e-2, atol=5e-2)


class Positions(torch.nn.Module):
    """Makes tensors of its own, as encoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.places = torch.nn.Embedding(8, 4)
        self.register_buffer("scale", torch.ones(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        return x.unsqueeze(-1) * self.scale + self.places(places) + torch.zeros(4)


def test_what_a_program_makes_by_itself_moves_with_it() -> None:
    program = torch.export.export(Positions(), (torch.zeros(3, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    (found,) = call_of(moved(program, torch.device("meta")))([torch.zeros(5, 8, device="meta")])
    assert found.device.type == "meta"
    assert found.shape == (5, 8, 4)
