"""What an exported program says about itself: names, element types and shapes of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from penstock.core.errors import ModelLoadError
from penstock.worker.backends.torch_model import DTYPES, Call, TorchModel
from penstock.worker.model import TensorSpec

__all__ = ["call_of", "call_through", "model_of", "moved"]

_MEND_BATCH = (
    "export it with a batch of any size: torch.export.export(model, (example,), "
    'dynamic_shapes=({0: torch.export.Dim("batch")},))'
)


def model_of(program: Any, lengths: Sequence[int]) -> TorchModel:
    """Return an exported program as a model; ModelLoadError when rows of one batch cannot be served by it."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    given = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    tensors = [arg for arg in given if not isinstance(arg, ConstantArgument)]
    for arg in tensors:
        if not isinstance(arg, TensorArgument):
            raise ModelLoadError(f"input {arg.name!r} is no tensor: export the model with tensors and constants only")
    if not tensors:
        raise ModelLoadError("the model takes no tensor, so it has nothing to be asked")
    shapes = _Shapes(program, {arg.name: values[arg.name] for arg in tensors}, lengths)
    inputs = tuple(shapes.spec_of(f"input {arg.name!r}", arg.name, values[arg.name]) for arg in tensors)
    outputs = tuple(
        shapes.spec_of(f"output {name!r}", name, value, output=True) for name, value in _outputs_of(program, values)
    )
    return TorchModel(call_of(program), inputs, outputs, shapes.rows_min, shapes.rows_max, program)


def moved(program: Any, where: Any) -> Any:
    """Return the program on another device. What it makes by itself (positions, masks) is made there, too."""
    from torch.export.passes import move_to_device_pass

    program = move_to_device_pass(program, where)
    # The pass changes the graph, and not the code that was made of it: that would go on making tensors on the CPU.
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            module.recompile()
    return program


def call_of(program: Any) -> Call:
    """Return how the program is called with its tensors in order.

    Its graph takes weights as arguments and gives a flat tuple. program.module() would put checks of shapes around it
    that have been made before a row was taken, and nests the arguments: 60 us to some 500 us a batch. It is there for
    programs that change their buffers. Guards are left out of it: they are source text that would be run.
    """
    signature = program.graph_signature
    values = {**program.constants, **program.state_dict}
    lifted = [spec for spec in signature.input_specs if spec.kind is not InputKind.USER_INPUT]
    given = [spec.arg for spec in signature.input_specs if spec.kind is InputKind.USER_INPUT]
    if (
        any(spec.kind is not OutputKind.USER_OUTPUT for spec in signature.output_specs)
        or any(isinstance(arg, ConstantArgument) for arg in given)
        or any(not isinstance(values.get(spec.target), torch.Tensor) for spec in lifted)
        or signature.input_specs[: len(lifted)] != lifted
    ):
        return call_through(program, program.module(check_guards=False))
    graph, weights = program.graph_module, [values[spec.target] for spec in lifted]
    return lambda tensors: graph(*weights, *tensors)


def call_through(program: Any, module: Any) -> Call:
    """Return how `module`, which takes and gives what the program does, is called with its tensors in order."""
    given = [spec.arg for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    constant = any(isinstance(arg, ConstantArgument) for arg in given)
    arguments, keywords = program.call_spec.in_spec.children()
    plain = all(argument.is_leaf() for argument in arguments.children()) and not keywords.children()
    form = program.call_spec.out_spec
    flat = form.is_leaf() or all(child.is_leaf() for child in form.children())
    if plain and flat and not constant:
        return lambda tensors: module(*tensors)

    def call(tensors: list[Any]) -> Any:
        rest = iter(tensors)
        values = [arg.value if isinstance(arg, ConstantArgument) else next(rest) for arg in given]
        positional, named = pytree.tree_unflatten(values, program.call_spec.in_spec)
        result = module(*positional, **named)
        return result if flat else pytree.tree_leaves(result)

    return call


def _outputs_of(program: Any, values: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the outputs by name: the keys of a dict, else `output`, or `output_0` and so on.

    The graph's own names are those of operations, which change with the release that exported it.
    """
    specs = [spec for spec in program.graph_signature.output_specs if spec.kind is OutputKind.USER_OUTPUT]
    form = program.call_spec.out_spec
    if not form.is_leaf() and form.type is dict and all(child.is_leaf() for child in form.children()):
        names = [str(key) for key in form.context]
    else:
        names = ["output"] if len(specs) == 1 else [f"output_{place}" for place in range(len(specs))]
    for name, spec in zip(names, specs, strict=True):
        if not isinstance(spec.arg, TensorArgument):
            raise ModelLoadError(f"output {name!r} is no tensor: let the model return tensors only")
    return [(name, values[spec.arg.name]) for name, spec in zip(names, specs, strict=True)]


class _Shapes:
    """Tells the batch and the rows' length from the other sizes. Each is a number or a symbol with a range."""

    def __init__(self, program: Any, inputs: dict[str, Any], lengths: Sequence[int]) -> None:
        self._lengths = lengths
        self._ranges = {str(symbol): bounds for symbol, bounds in program.range_constraints.items()}
        self._batch = self._batch_of(inputs)
        self._length = ""
        self.rows_min, self.rows_max = self._bounds(self._batch)
        for name, value in inputs.items():
            for place, size in enumerate(value.shape[1:], start=1):
                if not isinstance(size, int):
                    self._find_length(name, place, str(size))

    def spec_of(self, where: str, name: str, value: Any, *, output: bool = False) -> TensorSpec:
        """Return the tensor without its batch; where rows vary in length with the longest."""
        if not isinstance(value, torch.Tensor):
            raise ModelLoadError(f"{where} is no tensor: export the model with tensors only")
        # NumPy has no bfloat16: as a result it becomes float32, which holds each of its values.
        dtype = "float32" if output and value.dtype == torch.bfloat16 else DTYPES.get(value.dtype)
        if dtype is None:
            raise ModelLoadError(f"{where} is {value.dtype}, which Penstock cannot serve: convert it inside the model")
        if value.device.type != "cpu":
            raise ModelLoadError(
                f"{where} is on the device {value.device.type}: move the model to the CPU and export it"
            )
        if not value.shape or str(value.shape[0]) != self._batch:
            raise ModelLoadError(
                f"{where} has shape {_text(value.shape)}: its first dimension must be the batch, with one value per row"
            )
        row = [str(size) for size in value.shape[1:]]
        varies = bool(row) and row[0] == self._length
        for size in row[1:] if varies else row:
            if not size.isdigit():
                raise ModelLoadError(
                    f"{where} has shape {_text(value.shape)}: behind the batch only the inputs' length may vary, and "
                    "only in the second dimension"
                )
        sizes = [self._lengths[-1], *map(int, row[1:])] if varies else map(int, row)
        return TensorSpec(name, dtype, tuple(sizes), varies)

    def _batch_of(self, inputs: dict[str, Any]) -> str:
        for name, value in inputs.items():
            if not value.shape:
                raise ModelLoadError(f"input {name!r} is one number and has no batch dimension: {_MEND_BATCH}")
        batches = sorted({str(value.shape[0]) for value in inputs.values()})
        if len(batches) > 1:
            raise ModelLoadError(
                f"the inputs have different first dimensions ({', '.join(batches)}), so they hold no rows of one "
                f"batch: {_MEND_BATCH}"
            )
        if not batches[0].isidentifier() and not batches[0].isdigit():
            raise ModelLoadError(f"the batch can only be {batches[0]}, whatever that is: {_MEND_BATCH}")
        return batches[0]

    def _bounds(self, size: str) -> tuple[int, int | None]:
        """Return the least and the most that a size can be."""
        if size.isdigit():
            return int(size), int(size)
        bounds = self._ranges.get(size)
        lower, upper = (bounds.lower, bounds.upper) if bounds is not None else (None, None)
        least = int(lower) if lower is not None and lower.is_Integer else 1
        # A lower bound of 2 is what every size gets that may vary; one is all right all the same.
        return 1 if least <= 2 else least, int(upper) if upper is not None and upper.is_Integer else None

    def _find_length(self, name: str, place: int, size: str) -> None:
        if place > 1 or not size.isidentifier() or self._length not in ("", size):
            raise ModelLoadError(
                f"dimension {place} of input {name!r} has no fixed size ({size}): only the batch and the dimension "
                "behind it may vary, which must be the same for all inputs; export the model with a number there"
            )
        if not self._lengths:
            raise ModelLoadError(
                f"input {name!r} varies in its second dimension: set lengths for the model, the lengths that rows are "
                "padded to, such as [32, 128, 512], or export it with a number there"
            )
        least, most = self._bounds(size)
        if self._lengths[0] < least or (most is not None and self._lengths[-1] > most):
            raise ModelLoadError(
                f"the model was exported for lengths from {least} to {most or 'any'}: set lengths within these bounds"
            )
        self._length = size


def _text(shape: Sequence[Any]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
