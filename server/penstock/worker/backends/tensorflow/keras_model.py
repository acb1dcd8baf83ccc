"""Keras models: .keras archives and .h5 files, of Keras' own layers. What they would run or read is looked at first."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions
from penstock.worker.backends.probing import first_line
from penstock.worker.backends.tensorflow.runtime import NOT_INSTALLED, Opened, start_tensorflow
from penstock.worker.backends.trust import GROWTH_MAX, UNPACKED_BYTES_MIN, check_archive, refuse_code

__all__ = ["open_keras"]

_CODE = {
    "Lambda": "a Lambda layer, which is Python code",
    "__lambda__": "a lambda, which is Python code",
    "TorchModuleWrapper": "a TorchModuleWrapper, which is a pickle",
    "TFSMLayer": "a TFSMLayer, which loads a SavedModel from somewhere else",
    "FlaxLayer": "a FlaxLayer, which is Python code",
    "JaxLayer": "a JaxLayer, which is Python code",
}
# The parts of Keras whose functions compute; those of keras.utils and keras.saving read and write files.
_FUNCTIONS = re.compile(
    r"builtins|keras\.(src\.)?(activations|constraints|initializers|losses|metrics|ops|regularizers|random)(\..*)?"
)
_CLASSES = re.compile(r"builtins|keras(\..*)?")
_LOOKUPS = ("StringLookup", "IntegerLookup", "IndexLookup", "TextVectorization")
_OTHERWISE = (
    "Build the model of Keras' own layers, or export it with model.export(PATH) and serve the SavedModel, which needs "
    "no class."
)


def open_keras(path: Path, options: LoadOptions) -> Opened:
    """Load a .keras or .h5 file; ModelLoadError when it needs code that is no part of Keras."""
    found = next(_needed_code(_config_of(path)), None)
    if found:
        refuse_code(path, options, f"has {found}.", _OTHERWISE)
    # Not before: what is refused is refused in no time.
    start_tensorflow(options.threads)
    import keras

    try:
        # A digest that is trusted stands for the code, too.
        model = keras.models.load_model(str(path), compile=False, safe_mode=not found)
    except Exception as error:
        raise ModelLoadError(
            f"Keras {keras.__version__} cannot load {path}: {first_line(error)}. Check that the file is complete and "
            "was saved by a release of Keras 3 that is no newer"
        ) from error
    return _function_of(model, path)


def _function_of(model: Any, path: Path) -> Opened:
    """Trace the model into one concrete function of a list of tensors."""
    import keras
    import tensorflow

    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ModelLoadError(
            f"{path} does not say what it takes: build the model with keras.Input before you save it, or export it "
            "with model.export(PATH)"
        )
    # Inputs and outputs may be nested; of a list of each, the order is known.
    flat = keras.Model(list(model.inputs), list(model.outputs))
    inputs = {tensor.name: tensorflow.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs}
    specs = (tensorflow.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.outputs)
    outputs = dict(zip(_output_names(model), specs, strict=True))
    if len(inputs) < len(model.inputs):
        raise ModelLoadError(f"{path} has two inputs of the same name: give each keras.Input a name of its own")
    try:
        function = tensorflow.function(
            lambda *tensors: keras.tree.flatten(flat(list(tensors), training=False)), autograph=False
        )
        return Opened(function.get_concrete_function(*inputs.values()), flat, inputs, outputs)
    except Exception as error:
        raise ModelLoadError(f"{path} cannot be made into one function: {first_line(error)}") from error


def _output_names(model: Any) -> list[str]:
    """Name outputs by the layers they come out of; a layer with several has its name numbered."""
    names = getattr(model, "output_names", None) or [model.layers[-1].name] * len(model.outputs)
    return [
        name if names.count(name) == 1 else f"{name}_{names[:place].count(name)}" for place, name in enumerate(names)
    ]


# --- what a file would do ---------------------------------------------------------------------------------------------


def _config_of(path: Path) -> Any:
    """Return the architecture, once the file has been measured."""
    try:
        if path.suffix.lower() == ".keras":
            members = check_archive(path)
            if "config.json" not in members:
                raise ModelLoadError(f"{path} is no Keras 3 archive: it has no config.json")
            with zipfile.ZipFile(path) as archive:
                for member in members:
                    if member.endswith(".h5"):
                        with archive.open(member) as weights:
                            _check_weights(weights, archive.getinfo(member).file_size, path)
                return json.loads(archive.read("config.json"))
        with path.open("rb") as file:
            text = _check_weights(file, path.stat().st_size, path)
    except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
        raise ModelLoadError(
            f"{path} is no complete Keras model ({first_line(error)}): it may have been cut off on its way, copy it "
            "again"
        ) from error
    if text is None:
        raise ModelLoadError(f"{path} holds weights without an architecture: save the whole model, as a .keras file")
    return json.loads(text)


def _check_weights(file: IO[bytes], size: int, path: Path) -> str | bytes | None:
    """Refuse an HDF5 file that refers to others, or would unpack to far more than it has; its architecture, if any.

    HDF5 has links to other files, datasets that lie in other files, and datasets that are put together of others; Keras
    writes none of them, and reading one reads the machine's files.
    """
    try:
        import h5py
    except ImportError as error:
        raise ModelLoadError(NOT_INSTALLED) from error

    sizes = []

    def elsewhere(name: str, item: Any) -> str | None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                return name
            sizes.append(item.nbytes)
        return None

    with h5py.File(file, "r") as opened:
        # A name that is returned ends the visit.
        found = opened.visititems_links(lambda name, link: None if isinstance(link, h5py.HardLink) else name)
        found = found or opened.visititems(elsewhere)
        if found:
            raise ModelLoadError(f"{path} has weights {found!r} that lie in another file: do not use this file")
        if sum(sizes) > max(UNPACKED_BYTES_MIN, GROWTH_MAX * size):
            raise ModelLoadError(
                f"{path} has weights that would unpack to {sum(sizes)} bytes out of {size}: more than {GROWTH_MAX} "
                "times as much is what no model does"
            )
        config: str | bytes | None = opened.attrs.get("model_config")
        return config


def _needed_code(config: Any) -> Iterator[str]:
    """Yield what of an architecture is no part of Keras, or reads something that is no part of the file."""
    waiting = [config]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
            if isinstance(item.get("class_name"), str):
                yield from _code_of(item, item["class_name"])


def _code_of(item: dict[str, Any], class_name: str) -> Iterator[str]:
    module, registered, config = item.get("module"), item.get("registered_name"), item.get("config")
    if class_name in _CODE:
        yield _CODE[class_name]
    elif class_name == "function":
        if not isinstance(module, str) or not _FUNCTIONS.fullmatch(module):
            yield f"the function {config!r} of {module}, which is no part of Keras' layers"
    elif isinstance(module, str) and not _CLASSES.fullmatch(module):
        yield f"the class {class_name!r} of {module}, whose code is not in the file"
    elif isinstance(registered, str) and ">" in registered:
        yield f"the custom class {registered!r}, whose code is not in the file"
    elif class_name in _LOOKUPS and isinstance(config, dict) and isinstance(config.get("vocabulary"), str):
        yield f"a {class_name} layer that reads the file {config['vocabulary']!r}"
