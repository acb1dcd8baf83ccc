"""SavedModel folders: a graph is a program, so what it may do is looked at before TensorFlow sees it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions
from penstock.worker.backends.probing import first_line
from penstock.worker.backends.tensorflow.runtime import Opened, start_tensorflow
from penstock.worker.backends.trust import refuse_code

__all__ = ["open_saved_model"]

SIGNATURE = "serving_default"

# Operations without state that reach out of the process all the same: they read or write files, run Python, call native
# functions by name, or send what passes to a debugger. A pipeline of input data (Dataset) does all of the first two and
# is no part of a model; nor are TensorFlow's internal operations (_), which only its own rewriting puts in.
_OUTSIDE = re.compile(
    r"_.*|ReadFile|MatchingFiles|InitializeTableFromTextFile|GenerateVocabRemapping|(De|En)codeProto(V2)?|Reader\w+"
    r"|PyFuncStateless|XlaCustomCall\w*|XlaHostCompute\w*|Debug\w+|Copy(Host)?|TPU\w+|\w*Dataset\w*|Xla(Send|Recv)\w*"
)
# Operations with state whose state is in memory, and that of this graph alone: variables, tables that are filled from
# tensors, random numbers, arrays and stacks; and those that only look as if (control flow, checks). TensorFlow marks
# whatever else has an effect as stateful, too: files, sockets, queues, sessions, Python, summaries, collectives.
_IN_MEMORY = re.compile(
    r"VarHandleOp|VarIsInitializedOp|ReadVariableOp|VariableShape|Variable(V2)?|TemporaryVariable|DisableCopyOnRead"
    r"|Assign(Add|Sub)?VariableOp|DestroyResourceOp|Resource(Gather|Scatter|Apply|SparseApply|StridedSlice|Count)\w*"
    r"|(Anonymous)?(HashTable|MutableHashTable(OfTensors)?|MutableDenseHashTable)(V2)?|InitializeTableV2"
    r"|LookupTable(Find|Size|Insert|Remove|Import|Export)V2|TensorArray\w*|Stack(Push|Pop|Close)?(V2)?"
    r"|Random(StandardNormal|Uniform(Int)?|Gamma|Poisson(V2)?|Shuffle|Crop)|(ParameterizedT|T)runcatedNormal|Multinomial"
    r"|Stateful(RandomBinomial|StandardNormal(V2)?|TruncatedNormal|Uniform(FullInt|Int)?)|Rng(ReadAnd)?Skip"
    r"|NonDeterministicInts|StatelessRandomGetAlg|SampleDistortedBoundingBox(V2)?|(All|(Log)?Uniform|LearnedUnigram)CandidateSampler|CudnnRNN\w*"
    r"|Case|If|While|StatefulPartitionedCall|DeviceIndex|Empty|DeepCopy|GuaranteeConst|Assert|CheckNumerics(V2)?"
    r"|Timestamp|Print"
)
# What restores the variables of every SavedModel, and would save them; it is in a function that nothing else calls.
_SAVER = re.compile(r"SaveV2|RestoreV2|MergeV2Checkpoints")
_STREAMS = (b"stdout", b"stderr", b"log(info)", b"log(warning)", b"log(error)")


def open_saved_model(folder: Path, options: LoadOptions) -> Opened:
    """Load a SavedModel and take its signature; ModelLoadError when its graph reaches out of the process."""
    start_tensorflow(options.threads)
    import tensorflow

    _check_graph(folder, options)
    try:
        loaded = tensorflow.saved_model.load(str(folder))
    except Exception as error:
        raise ModelLoadError(
            f"TensorFlow {tensorflow.__version__} cannot load {folder}: {first_line(error)}. Check that the folder is "
            "complete, with variables/ beside saved_model.pb"
        ) from error
    signature = _signature_of(loaded, folder)
    _, inputs = signature.structured_input_signature
    names, outputs = sorted(inputs), signature.structured_outputs
    order = sorted(outputs)

    def by_position(*tensors: Any) -> list[Any]:
        results = signature(**dict(zip(names, tensors, strict=True)))
        return [results[name] for name in order]

    specs = {name: inputs[name] for name in names}
    function = tensorflow.function(by_position, autograph=False).get_concrete_function(*specs.values())
    return Opened(function, loaded, specs, {name: outputs[name] for name in order})


def _signature_of(loaded: Any, folder: Path) -> Any:
    signatures = loaded.signatures
    if SIGNATURE in signatures:
        return signatures[SIGNATURE]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    found = f"it has {', '.join(map(repr, sorted(signatures)))}" if len(signatures) else "it has none"
    raise ModelLoadError(
        f"{folder} has no signature {SIGNATURE!r} ({found}): export the model with model.export(PATH), or with "
        "tf.saved_model.save(model, PATH, signatures=FUNCTION)"
    )


# --- what a graph may do ----------------------------------------------------------------------------------------------


def _check_graph(folder: Path, options: LoadOptions) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    file, graph = folder / "saved_model.pb", SavedModel()
    try:
        graph.ParseFromString(file.read_bytes())
    except DecodeError as error:
        raise ModelLoadError(
            f"{file} is no complete SavedModel: it may have been cut off on its way, copy the folder again"
        ) from error
    if not graph.meta_graphs:
        raise ModelLoadError(f"{file} holds no graph: save the model again")
    for meta in graph.meta_graphs:
        if not meta.HasField("object_graph_def"):
            raise ModelLoadError(f"{folder} was saved by TensorFlow 1: load it and save it with tf.saved_model.save")
        for asset in meta.asset_file_def:
            _check_asset(folder, asset.filename)
        found = sorted(set(_reaching_out(meta)))
        if found:
            refuse_code(
                file,
                options,
                f"has a graph that reaches out of its process ({', '.join(found)}): such operations can read and write "
                "files or run code.",
                "Export what maps tensors to tensors, without tf.io, tf.data, tf.py_function and tf.print to files.",
            )


def _check_asset(folder: Path, name: str) -> None:
    """Refuse a file that is none of the model's: its lines would become the answers of a lookup table."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or (folder / "assets" / name).is_symlink():
        raise ModelLoadError(f"{folder} names the asset {name!r}, which leads out of the folder: do not use this model")


def _reaching_out(meta: Any) -> Iterator[str]:
    """Yield the operations of a graph and its functions that must not be there."""
    functions = {function.signature.name: function.node_def for function in meta.graph_def.library.function}
    saver_nodes = {meta.saver_def.save_tensor_name.partition(":")[0], meta.saver_def.restore_op_name}
    savers = {
        called
        for node in meta.graph_def.node
        if node.name in saver_nodes
        for called in _called_by(node, functions)
        # What can be called by the names of the object graph is a function of the model.
        if called not in meta.object_graph_def.concrete_functions
    }
    for node in meta.graph_def.node:
        if node.name not in saver_nodes:
            yield from _refused(node, functions, savers)
    for name, nodes in functions.items():
        for node in nodes:
            if not (name in savers and _SAVER.fullmatch(node.op)):
                yield from _refused(node, functions, savers)


def _called_by(node: Any, functions: dict[str, Any]) -> Iterator[str]:
    if node.op in functions:
        yield node.op
    for value in node.attr.values():
        for function in (value.func, *value.list.func):
            if function.name in functions:
                yield function.name


def _refused(node: Any, functions: dict[str, Any], savers: set[str]) -> Iterator[str]:
    """Yield the name of a node's operation when it is refused, or that of the saver that it calls."""
    from tensorflow.python.framework import op_def_registry

    yield from (f"{node.op} of {called}" for called in _called_by(node, functions) if called in savers)
    if node.op in functions:
        return
    definition = op_def_registry.get(node.op)
    if definition is None:
        yield f"{node.op}, which this TensorFlow does not know"
    elif node.op == "PrintV2":
        if node.attr["output_stream"].s not in (b"", *_STREAMS):
            yield "PrintV2 to a file"
    elif _OUTSIDE.fullmatch(node.op) or (definition.is_stateful and not _IN_MEMORY.fullmatch(node.op)):
        yield node.op
