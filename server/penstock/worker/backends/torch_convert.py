"""Compiling a PyTorch model when it is loaded: `convert = "compile"` and `convert = "aot-inductor"`.

What comes out is kept only if it agrees with the model itself on random rows; otherwise the model is served as it is.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions, find_artefact
from penstock.worker.backends.private_cache import cache_folder
from penstock.worker.backends.schema_file import find_schema
from penstock.worker.backends.torch_model import TorchModel, first_line
from penstock.worker.backends.trust import sha256_of

__all__ = ["convert"]

logger = logging.getLogger("penstock.worker.torch")

# Compiled code adds in another order than the operators do: float32 differs by some 1e-6 then.
RELATIVE_MAX = 1e-4
_ROWS = (1, 2, 7)


def convert(model: TorchModel, path: Path, options: LoadOptions) -> TorchModel:
    """Return the model as `options.convert` wants it; ModelLoadError when it cannot be made so."""
    if options.convert == "none":
        return model
    makers: dict[str, Callable[[TorchModel, Path, LoadOptions], Any]] = {
        "compile": _compiled,
        "aot-inductor": _packaged,
    }
    if options.convert not in makers:
        raise ModelLoadError(f"convert = {options.convert!r} is not for PyTorch models: use compile or aot-inductor")
    if model.source is None:
        raise ModelLoadError(f"convert = {options.convert!r}: {path} has been compiled already; leave convert out")
    if isinstance(model.source, torch.jit.ScriptModule):
        raise ModelLoadError(
            f"convert = {options.convert!r} is not for TorchScript: export the model with torch.export.save instead"
        )
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        raise ModelLoadError(
            f"convert = {options.convert!r} needs a C++ compiler, and there is no g++: install one, "
            "or leave convert out"
        )
    # A pool of compiler processes would outlive the compilation and hold the worker's memory.
    torch._inductor.config.compile_threads = 1
    try:
        made = replace(model, call=makers[options.convert](model, path, options))
        with torch.inference_mode():
            difference = _difference(model, made, options.lengths)
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(
            f"convert = {options.convert!r}: the model cannot be compiled: {first_line(error)}. Leave convert out"
        ) from error
    if difference:
        logger.warning("convert = %r is left out: the compiled model differs, %s", options.convert, difference)
        return model
    return made


def _compiled(model: TorchModel, path: Path, options: LoadOptions) -> Any:
    """Compiled for batches of any size: each kind of shape when it is first run, which is in the warm-up."""
    # A length that equals the batch by chance must not be taken for it.
    torch.fx.experimental._config.use_duck_shape = False
    # Counted by code, which the models of one worker share: eight models would otherwise be the most.
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(model.call, dynamic=model.rows_max is None)


def _packaged(model: TorchModel, path: Path, options: LoadOptions) -> Any:
    """A shared library, made once and kept in a folder of this user's."""
    package = cache_folder("aot-inductor") / f"{_key(path, model, options)}.pt2"
    if not package.is_file():
        program = model.source if _is_program(model) else _exported(model)
        handle, made = tempfile.mkstemp(suffix=".pt2", dir=package.parent)
        os.close(handle)
        try:
            torch._inductor.aoti_compile_and_package(program, package_path=made)
            os.replace(made, package)  # whoever loads it meanwhile finds all of it or nothing
        finally:
            Path(made).unlink(missing_ok=True)
    runner = torch._inductor.aoti_load_package(str(package), run_single_threaded=True)
    if not _is_program(model):
        return lambda tensors: runner(*tensors)
    from penstock.worker.backends.torch_exported import call_through

    return call_through(model.source, runner)


def _is_program(model: TorchModel) -> bool:
    return isinstance(model.source, torch.export.ExportedProgram)


def _exported(model: TorchModel) -> Any:
    """Export a module with the batch, and the length where rows vary, of any size."""
    batch = torch.export.Dim("batch")
    length = torch.export.Dim("length", max=max((spec.shape[0] for spec in model.inputs if spec.varies), default=1))
    sizes = tuple({0: batch, 1: length} if spec.varies else {0: batch} for spec in model.inputs)
    return torch.export.export(model.source, tuple(model.random_rows(3)), dynamic_shapes=sizes)


def _key(path: Path, model: TorchModel, options: LoadOptions) -> str:
    """Everything that the compiled code depends on: content, schema, release, processor, threads, lengths."""
    from torch._inductor import cpu_vec_isa

    file = (find_artefact(path) if path.is_dir() else path) or path
    schema = find_schema(file)
    folder = [] if _is_program(model) else sorted(file.parent.glob("*.py"))
    contents = [sha256_of(each) for each in (file, *([schema] if schema else []), *folder)]
    machine = str(cpu_vec_isa.pick_vec_isa())
    if str(model.device) != "cpu":
        machine = f"{model.device} {torch.cuda.get_device_name(model.device)}"
    parts = [torch.__version__, machine, str(options.threads), str(list(options.lengths)), *contents]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _difference(model: TorchModel, made: TorchModel, lengths: Sequence[int]) -> str:
    """Say in what the outputs of random rows differ, short and long ones where they vary; empty when they agree."""
    sizes = [rows for rows in _ROWS if rows >= model.rows_min] if model.rows_max is None else [model.rows_max]
    ends: list[int | None] = [*lengths[:1], *lengths[1:][-1:]] or [None]
    for rows, length in product(sizes or [model.rows_min], ends):
        expected, found = _outputs(model, rows, length), _outputs(made, rows, length)
        for spec, one, other in zip(model.outputs, expected, found, strict=True):
            if one.shape != other.shape or one.dtype != other.dtype:
                return f"output {spec.name!r} is {other.dtype} {tuple(other.shape)} for {rows} rows"
            one, other = one.double(), other.double()
            scale = one.abs().max().item() if one.numel() else 0.0
            if not torch.allclose(one, other, rtol=RELATIVE_MAX, atol=RELATIVE_MAX * scale, equal_nan=True):
                return f"output {spec.name!r} by {(one - other).abs().max().item():.2g} for {rows} rows"
    return ""


def _outputs(model: TorchModel, rows: int, length: int | None) -> list[Any]:
    result = model.call(model.random_rows(rows, length))
    if isinstance(result, dict):
        return [result[spec.name] for spec in model.outputs]
    return list(result) if isinstance(result, tuple | list) else [result]
