"""The CUDA lane and the pipeline on a real GPU. Skipped, each by its name, where there is none."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock import native
from penstock.core.devices import visible_gpus
from penstock.native import _kernels
from penstock.native._batcher import Ring, Taker
from penstock.native._kernels import DeviceWork
from penstock.worker.backends import LoadOptions, open_backend
from penstock.worker.batch import BatchRunner
from penstock.worker.devices import Device, DeviceArray, Graph, Stream, open_device
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.devices.pipeline import Pipeline
from penstock.worker.model import ModelSpec, TensorSpec

KERNELS = Path(native.__path__[0]) / "kernels.fatbin"

pytestmark = [
    pytest.mark.skipif(visible_gpus() == 0, reason="needs a GPU"),
    pytest.mark.skipif(not KERNELS.is_file(), reason="needs kernels, which are built where nvcc is"),
    # PyTorch's own, about itself.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:torch"),
]


@pytest.fixture(scope="module")
def gpu() -> Device:
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    return open_device("cuda:0")


class Batch:
    """Rows in pinned memory in any order, and room for what comes of them on the GPU and on the host."""

    def __init__(self, gpu: Device, rows: np.ndarray, result_bytes: int, *, seed: int = 0) -> None:
        flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
        each = flat.shape[1]
        order = np.random.default_rng(seed).permutation(len(rows))
        self.gpu = gpu
        self.rows = gpu.pinned(flat.size)
        self.rows.array.reshape(flat.shape)[order] = flat
        self.table, self.head = gpu.pinned(8 * len(rows)), gpu.pinned(16)
        self._offsets = each * order.astype(np.uint64)
        _kernels.write_head(int(self.head.array.ctypes.data), 1, len(rows))
        self.inside, self.back = gpu.memory(result_bytes), gpu.pinned(result_bytes)
        self.host = np.zeros(result_bytes, np.uint8)

    def both(self, plan: Callable[[int, tuple[int, int], int], DeviceWork]) -> tuple[np.ndarray, np.ndarray]:
        """Run the work that `plan` makes of a head, rows and a result, on the GPU and on the host."""
        table = self.table.array.view(np.uint64)
        table[:] = self._offsets + np.uint64(self.rows.address)
        stream = self.gpu.stream()
        stream.launch(plan(self.head.address, (0, self.table.address), self.inside))
        stream.copy(self.back.address, self.inside, len(self.host))
        stream.synchronize()
        self.unfit = _kernels.read_unfit(int(self.head.array.ctypes.data))
        table[:] = self._offsets + np.uint64(self.rows.array.ctypes.data)
        head, rows = int(self.head.array.ctypes.data), (0, int(self.table.array.ctypes.data))
        plan(head, rows, int(self.host.ctypes.data)).run()
        return self.back.array, self.host


@pytest.mark.parametrize("row_bytes", [1, 12, 64, 4096, 150_528])
def test_rows_lie_side_by_side(gpu: Device, row_bytes: int) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (67, row_bytes)).astype(np.uint8)
    batch = Batch(gpu, rows, rows.size)
    found, _ = batch.both(lambda head, at, to: _kernels.gather_work(head, at, to, row_bytes, 67))
    assert np.array_equal(found.reshape(rows.shape), rows)


STEPS: list[tuple[str, float, float, list[float]]] = [
    *[("fill", 3, 0, []), ("is_missing", 0, 0, []), ("standardize", 1.5, 0.3, []), ("scale", 1.1, -0.7, [])],
    *[("clip", -1, 1, []), ("log", 4.5, 0, []), ("yeo_johnson", 0.4, 0, []), ("box_cox", 0.3, 0, [])],
    *[("bin", 0, 0, [-1, 0, 0.5, 2]), ("place", 0, 0, [-1, 0, 1]), ("lookup", 0, 0, [7, 8, 9, -1, -2])],
    *[("sine", 1.7, 0, []), ("cosine", 1.7, 0, []), ("modulo", 3, 0, [])],
    *[("date_part", part, 0, []) for part in range(8)],
    *[("add", 0, 0, []), ("subtract", 0, 0, []), ("multiply", 0, 0, []), ("divide", 0, 0, [])],
]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int32"])
def test_steps_are_the_scalar_lanes(gpu: Device, dtype: str) -> None:
    generator = np.random.default_rng(2)
    rows = generator.uniform(-4, 4, (500, 2))
    rows[generator.random(rows.shape) < 0.2] = np.nan
    rows[:50] = generator.uniform(-1e9, 2e9, (50, 2))
    steps = [(kind, 0, 1, float(a), float(b), table) for kind, a, b, table in STEPS]
    matrix = (dtype, len(steps), [(2 + number, number, 0) for number in range(len(steps))])
    plan = _kernels.DeviceSteps([("float64", 2)], steps, [matrix])
    size = np.dtype(dtype).itemsize
    batch = Batch(gpu, rows, 500 * len(steps) * size)
    constants = gpu.constants(plan.constants)
    here = np.frombuffer(plan.constants + bytes(16), np.uint8)

    def work(head: int, at: tuple[int, int], to: int) -> DeviceWork:
        where = constants if to == batch.inside else int(here.ctypes.data)
        return plan.work(where, head, [at], [to], 500)

    found, host = (array.view(dtype).reshape(500, -1) for array in batch.both(work))
    expected = np.zeros((500, len(steps)), dtype)
    unfit = _kernels.Program([("float64", 2)], steps, [matrix], "scalar").run([rows], [expected])
    assert batch.unfit == (unfit is not None)
    assert np.array_equal(host, expected, equal_nan=dtype.startswith("float"))
    # CUDA's log, expm1, sin and so on are within 2 units in the last place; everything else is exact. What is rounded
    # to a whole number may fall on its other side.
    inexact = [kind in ("log", "yeo_johnson", "box_cox", "sine", "cosine") for kind, *_ in STEPS]
    exact = ~np.array(inexact)
    assert np.array_equal(found[:, exact], expected[:, exact], equal_nan=dtype.startswith("float"))
    tolerance = {"float64": 1e-14, "float32": 2e-7}.get(dtype, 0)
    whole = 0 if dtype.startswith("float") else 1
    assert np.allclose(found[:, inexact], expected[:, inexact], rtol=tolerance, atol=whole + 1e-15, equal_nan=True)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("planes", [True, False])
@pytest.mark.parametrize("sizes", [((64, 48), (64, 48)), ((7, 5), (7, 5)), ((90, 70), (33, 40)), ((20, 30), (50, 41))])
def test_images_are_the_scalar_lanes(gpu: Device, dtype: str, planes: bool, sizes: tuple[Any, Any]) -> None:
    size, result = sizes
    images = np.random.default_rng(3).integers(0, 256, (5, *size, 3)).astype(np.uint8)
    box = (0.0, 0.0, float(size[1]), float(size[0]))
    plan = _kernels.DeviceImages(size, result, dtype, planes, [0.017, 0.018, 0.019], [-2.1, -2.0, -1.8], "bicubic", box)
    wide = {"uint8": 1, "float16": 2, "bfloat16": 2, "float32": 4}[dtype]
    batch = Batch(gpu, images, 5 * result[0] * result[1] * 3 * wide)
    constants = gpu.constants(plan.constants)
    here = np.frombuffer(plan.constants + bytes(16), np.uint8)

    def work(head: int, at: tuple[int, int], to: int) -> DeviceWork:
        where = constants if to == batch.inside else int(here.ctypes.data)
        return plan.work(where, head, at, to, 5)

    found, host = batch.both(work)
    assert np.array_equal(found, host)  # no fused operation: the same bits


def test_a_graph_ends_with_its_number_in_the_flag(gpu: Device) -> None:
    stream, head, flag = gpu.stream(), gpu.pinned(16), gpu.pinned(64)
    graph = stream.capture(lambda: stream.launch(_kernels.signal_work(head.address, flag.address)))
    for sequence in range(1, 100):
        _kernels.write_head(int(head.array.ctypes.data), sequence, 1)
        graph.launch()
        while _kernels.read_flag(int(flag.array.ctypes.data)) != sequence:
            assert stream.fault() is None


def test_memory_that_is_not_there_is_refused_and_nothing_is_lost(gpu: Device) -> None:
    with pytest.raises(MemoryError, match="CUDA_ERROR_OUT_OF_MEMORY"):
        gpu.memory(1 << 44)
    gpu.memory(1 << 20)
    gpu.stream().synchronize()


def test_what_the_host_wrote_is_there_for_streams_that_wait_for_nobody(gpu: Device) -> None:
    size = 1 << 22
    said = np.random.default_rng(8).integers(0, 256, size).astype(np.uint8)
    stream, blank, back = gpu.stream(), gpu.pinned(size), gpu.pinned(size)
    memory = gpu.memory(size)
    blank.array[:] = 1
    stream.copy(blank.address, memory, size)
    constants = gpu.constants(said.tobytes())
    stream.copy(back.address, constants, size)
    stream.synchronize()
    assert not blank.array.any()
    assert np.array_equal(back.array, said)


def test_a_kernel_that_faults_loses_the_device() -> None:
    script = """
        from penstock.native import _kernels
        from penstock.worker.devices import DeviceLostError, open_device
        gpu = open_device("cuda:0")
        stream, head, table = gpu.stream(), gpu.pinned(16), gpu.pinned(8)
        _kernels.write_head(int(head.array.ctypes.data), 1, 1)
        table.array[:] = 255
        stream.launch(_kernels.gather_work(head.address, (0, table.address), gpu.memory(16), 16, 1))
        try:
            stream.synchronize()
        except DeviceLostError as error:
            print("lost:", error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("lost: CUDA_ERROR_"), done.stdout + done.stderr


class Copying:
    """A network of one copy, for which no framework is needed."""

    inputs = (TensorSpec("x", "float32", (8,)),)
    outputs = (TensorSpec("y", "float32", (8,)),)

    def __init__(self, gpu: Device) -> None:
        self._gpu = gpu

    def stream(self) -> Stream:
        return self._gpu.stream()

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        stream.copy(outputs[0].address, inputs[0].address, inputs[0].shape[0] * 32)

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        return stream.capture(body)


def copying(gpu: Device) -> GraphBackend:
    """Return a backend that answers with its rows."""
    return GraphBackend("copying", gpu, Copying(gpu), ModelSpec(Copying.inputs, Copying.outputs))


def test_rows_go_through_a_ring_and_come_back(gpu: Device) -> None:
    ring = Ring([("x", "float32", (8,))], [("y", "float32", (8,))], max_batch_size=16)
    taker = Taker([ring.fd], [0], 0)
    backend = copying(gpu)
    backend.prepare(taker.max_batch_size(), (), ())
    pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
    rows = np.random.default_rng(7).standard_normal((1000, 8)).astype(np.float32)
    assert np.array_equal(through(ring, lambda: pipeline.turn(0), rows), rows)


@pytest.mark.skipif(visible_gpus() < 2, reason="needs two GPUs")
def test_a_worker_serves_by_the_second_gpu() -> None:
    script = """
        import sys
        from penstock.native._batcher import Taker
        from penstock.worker.batch import BatchRunner
        from penstock.worker.devices import open_device
        from penstock.worker.devices.pipeline import Pipeline
        from tests.integration.test_cuda import copying

        taker = Taker([int(sys.argv[1])], [0], 0)
        backend = copying(open_device("cuda:1"))
        backend.prepare(taker.max_batch_size(), (), ())
        pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
        print("ready", flush=True)
        while pipeline.turn(2000):
            pass
    """
    ring = Ring([("x", "float32", (8,))], [("y", "float32", (8,))], max_batch_size=16)
    command = [sys.executable, "-c", textwrap.dedent(script), str(ring.fd)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=(ring.fd,)) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"ready\n"
        rows = np.random.default_rng(10).standard_normal((1000, 8)).astype(np.float32)
        assert np.array_equal(through(ring, os.sched_yield, rows), rows)


def through(ring: Ring, turn: Callable[[], object], rows: np.ndarray) -> np.ndarray:
    """Return the answers for rows that are published while others are in flight."""
    row_of: dict[tuple[int, int], int] = {}
    answers: dict[int, np.ndarray] = {}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        sent = len(row_of)
        if sent < len(rows) and (claim := ring.claim()) is not None:
            ring.publish(claim, [rows[sent].tobytes().ljust(64, b"\0")])
            row_of[claim.sequence, claim.row] = sent
        turn()
        while (block := ring.poll_done()) is not None:
            for place in range(block.rows):
                assert ring.error(block, place) is None
                answers[row_of[block.sequence, place]] = np.frombuffer(ring.outputs(block, place)[0], np.float32)
            ring.handled(block, range(block.rows))
        if len(answers) == len(rows):
            return np.stack([answers[row] for row in range(len(rows))])
    raise AssertionError(f"{len(answers)} of {len(rows)} rows were answered")


def exported(folder: Path) -> tuple[Path, Any]:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    torch.manual_seed(0)

    class Layers(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Linear(64, 3))

        def forward(self, x: Any) -> Any:
            # A tensor that the program makes by itself, on the device that it was moved to.
            return self.layers(x + torch.arange(8, device=x.device) / 8)

    module = Layers().eval()
    sizes = ({0: torch.export.Dim("batch")},)
    file = folder / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.zeros(4, 8),), dynamic_shapes=sizes), str(file))
    return file, lambda rows: module(torch.from_numpy(rows)).detach().numpy()


def test_a_module_runs_in_graphs_of_each_size(gpu: Device) -> None:
    """Without a file, whose form changes with PyTorch's releases."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    from penstock.worker.backends.torch_device import TorchNetwork
    from penstock.worker.backends.torch_model import TorchModel

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.GELU(), torch.nn.Linear(64, 3)).eval()
    here = module.double()
    inputs, outputs = (TensorSpec("x", "float32", (8,)),), (TensorSpec("y", "float32", (3,)),)
    given = np.random.default_rng(9).standard_normal((32, 8)).astype(np.float32)
    expected = here(torch.from_numpy(given).double()).detach().numpy()
    there = module.float().to("cuda:0")
    model = TorchModel(lambda tensors: there(*tensors), inputs, outputs)
    network = TorchNetwork(gpu, model, torch.device("cuda:0"), torch.float32)
    backend = GraphBackend("torch", gpu, network, ModelSpec(inputs, outputs))
    backend.prepare(32, (), ())
    for rows in (1, 5, 32):
        found = np.empty((rows, 3), np.float32)
        backend.run([given[:rows]], [found])
        assert np.allclose(found, expected[:rows], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 4e-2)])
def test_a_network_on_the_gpu_agrees_with_the_cpu(
    tmp_path: Path, gpu: Device, precision: str, tolerance: float
) -> None:
    file, expected = exported(tmp_path)
    backend = open_backend(file, "auto", LoadOptions(device="cuda:0", precision=precision))
    assert isinstance(backend, GraphBackend)
    backend.prepare(64, (), ())
    for rows in (1, 3, 37, 64):
        given = np.random.default_rng(rows).standard_normal((rows, 8)).astype(np.float32)
        found = np.empty((rows, 3), np.float32)
        backend.run([given], [found])
        assert np.allclose(found, expected(given), rtol=tolerance, atol=tolerance)


def test_a_network_that_inductor_compiled_agrees_with_the_cpu(
    tmp_path: Path, gpu: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("triton", reason="needs Triton, which compiles for a GPU")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, expected = exported(tmp_path)
    backend = open_backend(file, "auto", LoadOptions(device="cuda:0", convert="aot-inductor"))
    assert "is left out" not in caplog.text  # which says that what was compiled differs
    assert isinstance(backend, GraphBackend)
    backend.prepare(8, (), ())
    given = np.random.default_rng(11).standard_normal((5, 8)).astype(np.float32)
    found = np.empty((5, 3), np.float32)
    backend.run([given], [found])
    assert np.allclose(found, expected(given), rtol=1e-4, atol=1e-4)


def test_an_onnx_model_on_the_gpu_agrees_with_the_cpu(tmp_path: Path, gpu: Device) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    from tests.models import mlp

    path = mlp(tmp_path)
    cpu = open_backend(path, "auto", LoadOptions())
    backend = open_backend(path, "auto", LoadOptions(device="cuda:0"))
    assert isinstance(backend, GraphBackend)
    backend.prepare(64, (), ())
    given = np.random.default_rng(4).standard_normal((37, 32)).astype(np.float32)
    expected, found = np.empty((37, 3), np.float32), np.empty((37, 3), np.float32)
    cpu.run([given], [expected])
    backend.run([given], [found])
    assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)  # TF32


def test_tensorrts_engines_agree_with_the_cpu_and_take_other_weights(
    tmp_path: Path, gpu: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("tensorrt", reason="needs TensorRT")
    from tests.models import mlp

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    caplog.set_level("INFO", "penstock.worker.tensorrt")
    given = np.random.default_rng(4).standard_normal((13, 32)).astype(np.float32)
    said: list[tuple[bool, bool]] = []
    for seed in (0, 0, 1):  # built, kept, refitted
        folder = tmp_path / f"version-{len(said)}"
        folder.mkdir()
        path = mlp(folder, seed=seed)
        expected, found = np.empty((13, 3), np.float32), np.empty((13, 3), np.float32)
        open_backend(path, "onnx", LoadOptions()).run([given], [expected])
        options = LoadOptions(device="cuda:0", convert="refit", rows_max=16)
        backend = open_backend(path, "tensorrt", options)
        assert isinstance(backend, GraphBackend)
        backend.prepare(16, (), ())
        backend.run([given], [found])
        assert np.allclose(found, expected, rtol=1e-3, atol=1e-3)  # TF32
        said.append(("building" in caplog.text, "refitted" in caplog.text))
        caplog.clear()
    assert said == [(True, False), (False, False), (False, True)]


def test_a_network_answers_rows_of_a_ring(tmp_path: Path, gpu: Device) -> None:
    file, expected = exported(tmp_path)
    ring = Ring([("x", "float32", (8,))], [("y", "float32", (3,))], max_batch_size=16)
    taker = Taker([ring.fd], [0], 0)
    backend = open_backend(file, "auto", LoadOptions(device="cuda:0"))
    assert isinstance(backend, GraphBackend)
    backend.prepare(taker.max_batch_size(), (), ())
    pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
    rows = np.random.default_rng(5).standard_normal((400, 8)).astype(np.float32)
    assert np.allclose(through(ring, lambda: pipeline.turn(0), rows), expected(rows), rtol=1e-5, atol=1e-5)


def test_a_server_answers_from_a_gpu(tmp_path: Path) -> None:
    for module in ("cuda.bindings", "penstock.native._dataplane"):
        pytest.importorskip(module, reason=f"needs {module}")
    from tests.serving import Server

    file, expected = exported(tmp_path)
    server = Server.start([str(file), "--device", "cuda:0"], tmp_path)
    try:
        given = np.random.default_rng(6).standard_normal((200, 8)).astype(np.float32)
        with ThreadPoolExecutor(8) as clients:
            replies = list(clients.map(lambda row: server.predict(inputs=row.tolist()), given))
        found = [reply.json()["outputs"]["output"] for reply in replies]
        assert np.allclose(found, expected(given), rtol=1e-4, atol=1e-5)
    finally:
        server.stop()
