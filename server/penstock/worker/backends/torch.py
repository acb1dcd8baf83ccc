"""PyTorch models: exported programs, AOTInductor packages, TorchScript, state dicts and safetensors weights.

torch_files.py opens each form, torch_exported.py reads an exported program's signature, torch_vetting.py looks into
archives before PyTorch does, torch_convert.py compiles, torch_device.py has them on other devices than the CPU. These
and this file are the only ones that import torch.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.devices import CPU
from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import Backend, LoadOptions
from penstock.worker.model import BadOutputError, ModelSpec

if TYPE_CHECKING:
    from penstock.worker.backends.torch_model import TorchModel

__all__ = ["TorchBackend", "load"]

logger = logging.getLogger("penstock.worker.torch")


def load(path: Path, options: LoadOptions) -> Backend:
    """Load the PyTorch model at `path`, a file or a folder with one; ModelLoadError says what is wrong with it.

    PyTorch's threads belong to the process: of the models of one worker the last that is loaded sets them.
    """
    try:
        import torch
    except ImportError as error:
        raise ModelLoadError("PyTorch models need torch: pip install 'penstock[torch]'") from error
    from penstock.worker.backends.torch_convert import convert
    from penstock.worker.backends.torch_files import open_model

    torch.set_num_threads(options.threads)
    if torch.get_num_interop_threads() != 1:
        # Refused once another model of this worker has used them.
        with contextlib.suppress(RuntimeError):
            torch.set_num_interop_threads(1)
    _warn_of_read_only_rows_once()
    model = open_model(path, options)
    if options.device != CPU:
        from penstock.worker.backends.torch_device import place

        return place(model, path, options)
    with torch.inference_mode():
        writes = model.writes_into_inputs()
    if writes:
        logger.warning("the model writes into its inputs, so each batch is copied before it runs: let it not do that")
    return TorchBackend(convert(model, path, options), copies=writes)


def _warn_of_read_only_rows_once() -> None:
    """Use up PyTorch's one warning that a NumPy array is read-only, as rows of the ring are.

    from_numpy takes 0.5 us; from_dlpack, which knows read-only arrays, 1.2 us, and catch_warnings around each call
    1.7 us. A model that writes into its rows is found when it is loaded.
    """
    import torch

    array = np.zeros(1, np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.from_numpy(array)


class TorchBackend:
    """A loaded model and its schema.

    Inputs are handed to it where they lie; results are copied into the ring. An exported program whose batch is fixed
    or has a least size gets batches that are filled up with zeros.
    """

    name = "torch"
    rerun = True
    may_refuse_zeros = False

    def __init__(self, model: TorchModel, *, copies: bool) -> None:
        import torch

        self.spec = ModelSpec(inputs=model.inputs, outputs=model.outputs, max_batch_size=model.rows_max)
        self._call = model.call
        self._names = [tensor.name for tensor in model.outputs]
        self._least = model.rows_min
        self._copies = copies
        self._from_numpy = torch.from_numpy
        self._inference = torch.inference_mode
        self._padded: dict[tuple[int, ...], list[Array]] = {}  # by the shapes of rows

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run. Their own lengths are no input of the model."""
        rows = len(inputs[0])
        if rows < self._least:
            inputs = self._pad(inputs, rows)
        elif self._copies:
            inputs = [array.copy() for array in inputs]
        with self._inference():
            results = self._in_order(self._call([self._from_numpy(array) for array in inputs]))
            for name, result, output in zip(self._names, results, outputs, strict=True):
                output[...] = _rows_of(result, output, len(inputs[0]), name)

    def _pad(self, inputs: Sequence[Array], rows: int) -> list[Array]:
        shape = tuple(extent for array in inputs for extent in array.shape[1:])
        if shape not in self._padded:
            self._padded[shape] = [np.zeros((self._least, *array.shape[1:]), array.dtype) for array in inputs]
        for padded, given in zip(self._padded[shape], inputs, strict=True):
            padded[:rows] = given
            padded[rows:] = 0
        return self._padded[shape]

    def _in_order(self, result: Any) -> Sequence[Any]:
        """Return what the model gave as a list in the schema's order."""
        if isinstance(result, Mapping):
            missing = next((name for name in self._names if name not in result), None)
            if missing is not None:
                raise BadOutputError(f"the model gave no output {missing!r}, only {', '.join(map(repr, result))}")
            return [result[name] for name in self._names]
        results = result if isinstance(result, tuple | list) else [result]
        if len(results) != len(self._names):
            raise BadOutputError(f"the model gave {len(results)} outputs, expected {len(self._names)}")
        return results


def _rows_of(result: Any, output: Array, ran: int, name: str) -> Array:
    """Return a result of `ran` rows as an array of the output's shape; BadOutputError when it is something else."""
    try:
        array: Array = result.numpy()
    except AttributeError as error:
        raise BadOutputError(f"output {name!r} is {type(result).__name__}, expected a tensor") from error
    except TypeError:  # NumPy has no bfloat16
        array = result.float().numpy()
    if array.shape != (ran, *output.shape[1:]):
        raise BadOutputError(f"output {name!r} has shape {array.shape}, expected {(ran, *output.shape[1:])}")
    if array.dtype != output.dtype:
        raise BadOutputError(f"output {name!r} is {array.dtype}, expected {output.dtype}")
    return array[: len(output)]
