"""The forms that a PyTorch model's file can have, and how each is opened."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions, find_artefact
from penstock.worker.backends.python import import_file
from penstock.worker.backends.schema_file import (
    DeclaredTensor,
    Schema,
    find_schema,
    read_schema,
    refuse_strings,
    schema_name,
    specs_of,
    template,
)
from penstock.worker.backends.torch_exported import model_of
from penstock.worker.backends.torch_model import TorchModel, first_line
from penstock.worker.backends.torch_vetting import holds_machine_code, vet_exported, vet_script
from penstock.worker.backends.trust import check_archive, is_trusted, refuse_code, refuse_pickle
from penstock.worker.fault import describe
from penstock.worker.model import TensorSpec

__all__ = ["open_model"]

_SCORES = (DeclaredTensor("scores", "float32", (3,)),)
# More than most models are compiled for.
_ROWS_BESIDE = 256
_EXPORT = "Save it with torch.export.save, or save only its weights: torch.save(model.state_dict(), ...)."


def open_model(path: Path, options: LoadOptions) -> TorchModel:
    """Open the file at `path`, or the one in that folder, by its name and content."""
    file = _file_of(path)
    if file.suffix.lower() == ".safetensors":
        return _open_weights(file, options, _read_safetensors(file))
    if not zipfile.is_zipfile(file):
        refuse_pickle(file, options, f"PyTorch's archives are zip files, and this is none or was cut off. {_EXPORT}")
        return _open_weights(file, options, _read_pickle(file, options))
    entries = check_archive(file)
    # PyTorch puts all entries into one folder, which has the file's name.
    inside = {entry.partition("/")[2] for entry in entries}
    if holds_machine_code(inside):
        return _open_package(file, options)
    if any(entry.startswith("models/") for entry in inside):
        return _open_exported(file, options)
    if "constants.pkl" in inside:
        return _open_script(file, options)
    if "data.pkl" in inside:
        return _open_weights(file, options, _read_pickle(file, options))
    raise ModelLoadError(
        f"{file} is a zip archive, but none that PyTorch writes: expected an exported program, TorchScript or a "
        "state dict"
    )


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = find_artefact(path)
    if found is None or found.suffix.lower() not in (".pt2", ".pt", ".pth", ".safetensors"):
        raise ModelLoadError(
            f"{path} is a folder without exactly one PyTorch file (.pt2, .pt, .pth or .safetensors): name the file"
        )
    return found


def _open_exported(file: Path, options: LoadOptions) -> TorchModel:
    if not is_trusted(file, options):
        vet_exported(file)
    try:
        program = torch.export.load(str(file))
        program._guards_code = []  # source text, which nothing here needs to have run
        model = model_of(program, options.lengths)
    except ModelLoadError:
        raise
    except Exception as error:
        raise _cannot_load(file, error, "torch.export.save") from error
    return _renamed(model, file)


def _renamed(model: TorchModel, file: Path) -> TorchModel:
    """Give inputs and outputs the names of a schema file beside the program, which must agree with it otherwise."""
    found = find_schema(file)
    if found is None:
        return model
    schema = read_schema(found)
    renamed = []
    for kind, declared, known in (("inputs", schema.inputs, model.inputs), ("outputs", schema.outputs, model.outputs)):
        if kind == "outputs" and not declared:
            renamed.append(known)
            continue
        says = [(tensor.dtype, tensor.shape) for tensor in declared]
        has = [(tensor.dtype, tensor.declared_shape) for tensor in known]
        if says != has:
            shown = template(_declarations(model.inputs), _declarations(model.outputs))
            raise ModelLoadError(f"the {kind} in {found} are not those of {file}. This would be right:\n{shown}")
        renamed.append(tuple(replace(tensor, name=other.name) for tensor, other in zip(known, declared, strict=True)))
    inputs, outputs = renamed
    return replace(model, inputs=inputs, outputs=outputs, call=_by_place(model))


def _declarations(tensors: Sequence[TensorSpec]) -> tuple[DeclaredTensor, ...]:
    return tuple(DeclaredTensor(tensor.name, tensor.dtype, tensor.declared_shape) for tensor in tensors)


def _by_place(model: TorchModel) -> Any:
    """Return the call with its results as a list: what was a dict has other names now."""
    names = [tensor.name for tensor in model.outputs]

    def call(tensors: list[Any]) -> Any:
        result = model.call(tensors)
        return [result[name] for name in names] if isinstance(result, dict) else result

    return call


def _open_package(file: Path, options: LoadOptions) -> TorchModel:
    """An AOTInductor package: a shared library, which says nothing about its inputs."""
    refuse_code(file, options, "holds machine code, which can do anything", "An exported program (.pt2) holds none.")
    schema = _schema_of(file)
    try:
        runner = torch._inductor.aoti_load_package(str(file), run_single_threaded=True)
    except Exception as error:
        raise _cannot_load(file, error, "torch._inductor.aoti_compile_and_package") from error
    model = _declared(schema, lambda tensors: runner(*tensors), options.lengths)
    _check_batch(model, file)
    return model


def _check_batch(model: TorchModel, file: Path) -> None:
    """Packages do not check shapes: one that was compiled for a fixed batch gives so many rows, whatever came."""
    # Parts of more rows, so that one which reads beyond its batch reads what is there.
    more = model.random_rows(_ROWS_BESIDE)
    for rows in (3, 2):
        try:
            with torch.inference_mode():
                results = model.call([tensor[:rows] for tensor in more])
        except Exception as error:
            raise ModelLoadError(f"{file} cannot run a batch of {rows} random rows: {first_line(error)}") from error
        values = results.values() if isinstance(results, dict) else results
        for result in [values] if isinstance(values, torch.Tensor) else values:
            if isinstance(result, torch.Tensor) and result.shape[:1] != (rows,):
                raise ModelLoadError(
                    f"{file} gives {tuple(result.shape)} for a batch of {rows} rows: compile a program that was "
                    'exported with a batch of any size, dynamic_shapes=({0: torch.export.Dim("batch")},)'
                )


def _open_script(file: Path, options: LoadOptions) -> TorchModel:
    if not is_trusted(file, options):
        vet_script(file)
    try:
        module = torch.jit.load(str(file), map_location="cpu").eval()
        names = [argument.name for argument in module.forward.schema.arguments[1:]]
    except Exception as error:
        raise _cannot_load(file, error, "torch.jit.save") from error
    schema = _schema_of(file, "is TorchScript, which does not say what it takes and gives", module.state_dict(), names)
    return replace(_declared(schema, lambda tensors: module(*tensors), options.lengths), source=module)


def _open_weights(file: Path, options: LoadOptions, content: Any) -> TorchModel:
    """Weights, which need a class from the schema file; or a whole module, where its pickle is trusted."""
    if isinstance(content, torch.nn.Module):
        module = content
        schema = _schema_of(file)
    else:
        weights = _tensors_of(content, file)
        more = {"class": "net.py:Net", "arguments": {}}
        schema = _schema_of(file, "holds weights and no code", weights, more=more)
        module = _made(schema, file)
        try:
            module.load_state_dict(weights, strict=True)
        except Exception as error:
            lines = str(error).strip().splitlines()
            raise ModelLoadError(
                f"the weights in {file} do not fit class {schema.class_name} in {schema.class_file}: "
                f"{'; '.join(line.strip() for line in lines[1:4]) or first_line(error)}. Check the class and "
                "its arguments"
            ) from error
    module.eval()
    return replace(_declared(schema, lambda tensors: module(*tensors), options.lengths), source=module)


def _made(schema: Schema, file: Path) -> Any:
    if schema.class_file is None:
        raise ModelLoadError(
            f'{schema.file} names no class, and {file} holds weights only: add "class": "net.py:Net", the Python file '
            'beside it and the class in it, and "arguments" if it takes any'
        )
    made = getattr(import_file(schema.class_file), schema.class_name, None)
    if not (isinstance(made, type) and issubclass(made, torch.nn.Module)):
        raise ModelLoadError(f"{schema.class_file} has no class {schema.class_name} that is a torch.nn.Module")
    try:
        return made(**schema.arguments)
    except BaseException as error:
        raise ModelLoadError(
            f"class {schema.class_name} in {schema.class_file} raised for the arguments in {schema.file}: "
            f"{describe(error)}"
        ) from error


def _declared(schema: Schema, call: Any, lengths: Sequence[int]) -> TorchModel:
    if not schema.outputs:
        raise ModelLoadError(f"{schema.file} declares no outputs. Add them:\n{template(schema.inputs, _SCORES)}")
    for tensor in (*schema.inputs, *schema.outputs):
        if tensor.categories:
            raise ModelLoadError(
                f"{schema.file}: {tensor.name!r} has categories, but a PyTorch model sees numbers: leave them out"
            )
    refuse_strings(schema, "PyTorch")
    inputs, outputs = (specs_of(tensors, lengths, schema.file) for tensors in (schema.inputs, schema.outputs))
    return TorchModel(call, inputs, outputs)


def _schema_of(
    file: Path,
    reason: str = "does not say what the model takes and gives",
    weights: Mapping[str, Any] | None = None,
    names: Sequence[str] = ("features",),
    *,
    more: Mapping[str, object] | None = None,
) -> Schema:
    """Read the schema file; where there is none the error's template is filled from the model's weights and names.

    The sizes are a guess that is right for networks that begin and end with a matrix, and easily mended where not.
    """
    found = find_schema(file)
    if found is not None:
        return read_schema(found)
    matrices = [tensor.shape for tensor in (weights or {}).values() if tensor.ndim == 2] or [(3, 4)]
    inputs = tuple(DeclaredTensor(name, "float32", (matrices[0][1],)) for name in names)
    outputs = (DeclaredTensor("scores", "float32", (matrices[-1][0],)),)
    raise ModelLoadError(
        f"{file} {reason}. Write {schema_name(file)} (or schema.json beside it), with the model's own names and the "
        f"shapes of one row:\n{template(inputs, outputs, more)}"
    )


def _read_safetensors(file: Path) -> dict[str, Any]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelLoadError("safetensors files need safetensors: pip install 'penstock[torch]'") from error
    try:
        weights: dict[str, Any] = load_file(file)
    except Exception as error:
        raise _cannot_load(file, error, "safetensors.torch.save_file") from error
    return weights


def _read_pickle(file: Path, options: LoadOptions) -> Any:
    """Read what torch.save wrote: tensors in plain containers, unless the file is trusted."""
    trusted = is_trusted(file, options)
    try:
        return torch.load(file, map_location="cpu", weights_only=not trusted)
    except Exception as error:
        if not trusted and type(error).__name__ == "UnpicklingError":
            refuse_pickle(file, options, f"This one holds more than tensors. {_EXPORT}")
        raise _cannot_load(file, error, "torch.save") from error


def _tensors_of(content: Any, file: Path) -> dict[str, Any]:
    if isinstance(content, dict) and content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return content
    keys = f" with {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, dict) else ""
    raise ModelLoadError(
        f"{file} holds a {type(content).__name__}{keys} and no state dict: save torch.save(model.state_dict(), ...)"
    )


def _cannot_load(file: Path, error: Exception, writer: str) -> ModelLoadError:
    return ModelLoadError(
        f"PyTorch {torch.__version__} cannot load {file}: {first_line(error)}. Check that it is complete and was "
        f"written by {writer} of this release or an earlier one"
    )
