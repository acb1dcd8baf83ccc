"""Models that cannot be loaded, or mean harm, beside one that is served: ONNX and plain Python.

tests/formats/test_hostile_models.py has those of the other formats.
"""

import json
import textwrap
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests import models
from tests.hostile import Hostile, check_refusals
from tests.models import tensor

HUGE = 1 << 36  # elements, 256 GiB of them


def graph(path: Path, nodes: list[onnx.NodeProto], *initializers: TensorProto) -> Path:
    """Write a graph of x to y without having it checked."""
    inputs, outputs = [tensor("x", TensorProto.FLOAT, 4)], [tensor("y", TensorProto.FLOAT, 4)]
    made = helper.make_graph(nodes, "hostile", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", models.OPSET), helper.make_opsetid("miner", 1)]
    path.write_bytes(helper.make_model(made, opset_imports=opsets, ir_version=models.IR_VERSION).SerializeToString())
    return path


def declared(name: str, dims: list[int]) -> TensorProto:
    """Return a tensor that says it is large and has four bytes."""
    return TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, raw_data=bytes(4))


def outside(name: str) -> TensorProto:
    """Return a tensor whose values lie in a file of the machine."""
    found = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "../../../../../../../../etc/passwd"), ("offset", "0"), ("length", "16")):
        found.external_data.add(key=key, value=value)
    return found


def endless() -> onnx.NodeProto:
    """Return a loop that no batch comes out of."""
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go"]), helper.make_node("Sqrt", ["value"], ["next"])],
        "body",
        [
            scalar("turn", TensorProto.INT64, []),
            scalar("going", TensorProto.BOOL, []),
            scalar("value", TensorProto.FLOAT, None),
        ],
        [scalar("go", TensorProto.BOOL, []), scalar("next", TensorProto.FLOAT, None)],
    )
    return helper.make_node("Loop", ["turns", "yes", "x"], ["y"], body=body)


def onnx_models(folder: Path) -> Iterator[Hostile]:
    good = models.mlp(folder).read_bytes()
    (folder / "mlp.onnx").unlink()
    for name, content in (("empty", b""), ("cut-off", good[: len(good) // 2]), ("noise", bytes(range(256)) * 64)):
        (folder / f"{name}.onnx").write_bytes(content)
        yield Hostile(name, folder / f"{name}.onnx", "cannot load .* Check that the file is complete|no output")

    add = helper.make_node("Add", ["x", "w"], ["y"])
    path = graph(folder / "declared.onnx", [add], declared("w", [1 << 34, 4]))
    yield Hostile("declared", path, "cannot load .* Check that the file|needs more memory")
    path = graph(folder / "outside.onnx", [add], outside("w"))
    yield Hostile("outside", path, "cannot load .*(external data|outside|escape)")
    path = graph(folder / "miner.onnx", [helper.make_node("Mine", ["x"], ["y"], domain="miner")])
    yield Hostile("miner", path, "cannot load .*[Mm]ine")

    fill = helper.make_node("ConstantOfShape", ["shape"], ["big"])
    nodes = [
        fill,
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    path = graph(folder / "filled.onnx", nodes, helper.make_tensor("shape", TensorProto.INT64, [1], [HUGE]))
    yield Hostile("filled", path, "needs more memory than its worker may have, 1536 MiB .*raise memory_bytes")
    numbers = helper.make_tensor("turns", TensorProto.INT64, [], [np.iinfo(np.int64).max])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    path = graph(folder / "endless.onnx", [endless()], numbers, yes)
    yield Hostile("endless", path, r"not ready within 2 s \(load_timeout_s\)", load_timeout_s=2)


HEAD = """
    import ctypes, os, signal, socket, time
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (4,))}
        outputs = {"y": Tensor("float32", (4,))}

        def predict(self, batch):
            return batch["x"]

        def load(self):
            pass
"""
# Its own socket to the supervisor is among these.
SOCKETS = """
    def sockets():
        numbers = [number for number in range(3, 4096) if os.path.exists(f"/proc/self/fd/{number}")]
        names = {number: os.readlink(f"/proc/self/fd/{number}") for number in numbers}
        return [socket.socket(fileno=number) for number, name in names.items() if name.startswith("socket:")]
"""

# What load() does, and what is said of it.
PYTHON = {
    "raises": ("raise RuntimeError('no weights in /srv/secret')", "RuntimeError: no weights in <path>"),
    "exits": ("os._exit(3)", "exit status 3"),
    "leaves": ("raise SystemExit(0)", "raised while it loaded: SystemExit"),
    "is-killed": ("os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL while it loaded"),
    "faults": ("ctypes.string_at(0)", "signal SIGSEGV while it loaded"),
    "recurses": ("self.load()", "RecursionError"),
    "waits": ("signal.pause()", "not ready within 2 s"),
    "spins": ("while True: pass", "not ready within 2 s"),
    "eats": ("self.weights = [bytearray(1 << 28) for _ in range(64)]", "needs more memory .* raise memory_bytes"),
    "hangs-up": ("os.closerange(3, 256); signal.pause()", "not ready within 2 s|ended with"),
    "babbles": (
        "[each.send(bytes(90000)) for each in sockets()]; signal.pause()",
        "broke the protocol .* and was killed",
    ),
}  # fmt: skip


def python_models(folder: Path) -> Iterator[Hostile]:
    for name, (body, reason) in PYTHON.items():
        path = folder / f"{name}.py"
        path.write_text(textwrap.dedent(HEAD).rstrip().removesuffix("pass") + body + textwrap.dedent(SOCKETS))
        yield Hostile(name, path, reason, load_timeout_s=2 if "2 s" in reason else 60)
    sources = {
        "huge-rows": (textwrap.dedent(HEAD).replace("(4,)", "(1 << 30, 1 << 10)"), "no ring can hold"),
        "no-python": ("class Model(\n", "cannot be imported: SyntaxError"),
        "nothing": ("", "has no class Model"),
    }
    for name, (source, reason) in sources.items():
        (folder / f"{name}.py").write_text(source)
        yield Hostile(name, folder / f"{name}.py", reason)


def golden_rows(folder: Path) -> Iterator[Hostile]:
    contents = {
        "golden-nested": ("[" * 1_000_000, "nested too deeply"),
        "golden-large": (" " * (33 << 20), "larger than 32 MiB"),
        "golden-wrong": (
            json.dumps({"inputs": {"x": [[0] * 4]}, "outputs": {"y": [[2] * 4]}}),
            "expected 2.0, got 1.0",
        ),
    }
    for name, (content, reason) in contents.items():
        path = folder / f"{name}.onnx"
        models.affine(folder).rename(path)
        path.with_name(f"{name}.golden.json").write_text(content)
        yield Hostile(name, path, reason)


def files_that_are_none(folder: Path) -> Iterator[Hostile]:
    yield Hostile("missing", folder / "missing.onnx", "there is no model")
    (folder / "unknown.bin").write_bytes(b"\x7fELF")
    yield Hostile("unknown", folder / "unknown.bin", "no model that Penstock knows")
    loop = folder / "loop"
    loop.mkdir()
    (loop / "loop.onnx").symlink_to(loop / "loop.onnx")
    yield Hostile("loop", loop, "no model that Penstock knows")


def test_models_that_mean_harm_are_refused_and_others_do_not_notice(tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    hostile = list(
        chain.from_iterable(make(folder) for make in (onnx_models, python_models, golden_rows, files_that_are_none))
    )
    check_refusals(hostile, folder)
