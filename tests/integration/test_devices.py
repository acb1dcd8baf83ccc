"""Batches in flight on a device: the host's thread as one, through the same pipeline that a GPU has."""

import importlib.util
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.native._batcher import DoneBlock, Ring, Taker
from penstock.worker.backends import LoadOptions, open_backend
from penstock.worker.batch import BatchRunner
from penstock.worker.devices import DeviceArray, DeviceLostError, Graph, Stream
from penstock.worker.devices.backend import FLIGHT_DEPTH, GraphBackend
from penstock.worker.devices.host import HostDevice
from penstock.worker.devices.pipeline import Pipeline
from penstock.worker.model import ModelSpec, TensorSpec
from tests.integration.supervised import DEADLINE_SECONDS
from tests.models import affine, mlp, tokens
from tests.serving import Server

ROW = TensorSpec("x", "float32", (4,))
RESULT = TensorSpec("y", "float32", (4,))


class Doubling:
    """A network on the host: 2 x, but it refuses batches with a negative number in them."""

    def __init__(self, device: HostDevice) -> None:
        self.inputs: tuple[TensorSpec, ...] = (ROW,)
        self.outputs: tuple[TensorSpec, ...] = (RESULT,)
        self._device = device
        self.most_rows = 0

    def stream(self) -> Stream:
        return self._device.stream()

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        (given,), (result,) = map(self._device.view, inputs), map(self._device.view, outputs)

        def run() -> None:
            self.most_rows = max(self.most_rows, len(given))
            if (given < 0).any():
                raise ValueError("negative")
            result[...] = 2 * given

        stream.call(run)

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        return stream.capture(body)


class Served:
    """A ring, its taker, and a pipeline between them."""

    def __init__(self, sizes: Sequence[int] = (), network: type[Doubling] = Doubling) -> None:
        inputs, outputs = [("x", "float32", (4,))], [("y", "float32", (4,))]
        self.ring = Ring(inputs, outputs, max_batch_size=16, batch_sizes=sizes, rerun_on_worker_death=True)
        self.serve_by(0, network)
        self.answers: dict[tuple[int, int], tuple[object, np.ndarray]] = {}
        self.in_flight_most = 0

    def serve_by(self, worker: int, network: type[Doubling]) -> None:
        self.taker = Taker([self.ring.fd], [0], worker)
        self.device = HostDevice()
        self.network = network(self.device)
        spec = ModelSpec(self.network.inputs, self.network.outputs)
        backend = GraphBackend("doubling", self.device, self.network, spec)
        backend.prepare(self.taker.max_batch_size(), self.taker.batch_sizes(), ())
        runner = BatchRunner(backend, self.taker.batch_sizes())
        self.pipeline = Pipeline(self.taker, [backend], [runner])

    def publish(self, numbers: Sequence[float]) -> list[tuple[int, int]]:
        places = []
        for number in numbers:
            claim = self.ring.claim()
            assert claim is not None
            self.ring.publish(claim, [np.full(4, number, np.float32).tobytes().ljust(64, b"\0")])
            places.append((claim.sequence, claim.row))
        return places

    def turn_until(self, count: int) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            self.pipeline.turn(0)
            self.in_flight_most = max(self.in_flight_most, self.pipeline.flying)
            while (block := self.ring.poll_done()) is not None:
                self._read(block)
            if len(self.answers) >= count:
                return
        raise AssertionError(f"{len(self.answers)} of {count} rows were answered")

    def _read(self, block: DoneBlock) -> None:
        for row in range(block.rows):
            (output,) = self.ring.outputs(block, row)
            self.answers[block.sequence, row] = (self.ring.error(block, row), np.frombuffer(output, np.float32))
        self.ring.handled(block, range(block.rows))


@pytest.fixture(params=[(), (4, 16)], ids=["any size", "two sizes"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    made = Served(request.param)
    yield made
    made.pipeline.finish()
    made.device.close()


def test_each_row_gets_its_own_answer_with_several_batches_in_flight(served: Served) -> None:
    generator = np.random.default_rng(1)
    expected: dict[tuple[int, int], float] = {}
    for _ in range(150):
        numbers = generator.integers(0, 1000, generator.integers(1, 30)).tolist()
        expected.update(zip(served.publish(numbers), numbers, strict=True))
        served.turn_until(len(expected) - int(generator.integers(0, 60)))  # the others are in flight, or wait
    served.turn_until(len(expected))
    assert served.in_flight_most > 1
    for place, number in expected.items():
        error, answer = served.answers[place]
        assert error is None
        assert np.array_equal(answer, np.full(4, 2 * number, np.float32))


def test_a_row_that_fails_its_batch_fails_alone(served: Served) -> None:
    expected: dict[tuple[int, int], float] = {}
    for first in range(0, 40, 8):
        numbers = [float(number) for number in range(first, first + 8)]
        numbers[3] = -1.0
        expected.update(zip(served.publish(numbers), numbers, strict=True))
    served.turn_until(len(expected))
    for place, number in expected.items():
        error, answer = served.answers[place]
        if number < 0:
            assert error == ("model_raised", b"ValueError: negative")
        else:
            assert error is None
            assert np.array_equal(answer, np.full(4, 2 * number, np.float32))


def test_no_more_batches_fly_than_there_are_contexts(served: Served) -> None:
    served.publish([1.0] * 60)
    served.turn_until(60)
    assert 1 <= served.in_flight_most <= FLIGHT_DEPTH


class Lost(Doubling):
    """A network whose first batch takes the device with it."""

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        (given,) = map(self._device.view, inputs)

        def run() -> None:
            if given[0, 0] == 13:
                raise DeviceLostError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access")

        stream.call(run)
        super().enqueue(stream, inputs, outputs)


def test_what_a_lost_device_held_runs_again_elsewhere() -> None:
    served = Served(network=Lost)
    places = served.publish([13.0, 1.0, 2.0])
    with pytest.raises(DeviceLostError, match="ILLEGAL_ADDRESS"):
        served.turn_until(3)
    assert not served.answers
    assert served.ring.recover(0)["blocks_requeued"] >= 1  # what the supervisor does when the process has ended
    served.serve_by(1, Doubling)
    served.turn_until(3)
    for place, number in zip(places, (13.0, 1.0, 2.0), strict=True):
        error, answer = served.answers[place]
        assert error is None
        assert np.array_equal(answer, np.full(4, 2 * number, np.float32))


class Refusing(Doubling):
    """A network that cannot run."""

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        def run() -> None:
            raise RuntimeError("no kernel image is available for execution on the device")

        stream.call(run)


def test_a_network_that_fails_when_it_is_written_down_is_a_models_error() -> None:
    device = HostDevice()
    network = Refusing(device)
    backend = GraphBackend("refusing", device, network, ModelSpec(network.inputs, network.outputs))
    with pytest.raises(ModelLoadError, match=r"the model fails for 4 rows of zeros on host: .*no kernel image"):
        backend.prepare(4, (), ())
    device.close()


def test_a_model_on_the_host_answers_as_it_does_on_the_cpu(tmp_path: Path) -> None:
    path = mlp(tmp_path, (6, 8, 3))
    beside = open_backend(path, "auto", LoadOptions())
    device = open_backend(path, "auto", LoadOptions(device="host"))
    assert isinstance(device, GraphBackend)
    device.prepare(64, (), ())
    assert device.spec == beside.spec
    rows = np.random.default_rng(2).standard_normal((37, 6)).astype(np.float32)
    expected, found = np.empty((37, 3), np.float32), np.empty((37, 3), np.float32)
    beside.run([rows], [expected])
    device.run([rows], [found])
    assert np.allclose(expected, found, rtol=1e-6, atol=1e-6)


def test_rows_that_vary_in_length_are_run_by_graphs_of_each(tmp_path: Path) -> None:
    lengths = (4, 8)
    path = tokens(tmp_path)
    beside = open_backend(path, "auto", LoadOptions(lengths=lengths))
    device = open_backend(path, "auto", LoadOptions(lengths=lengths, device="host"))
    assert isinstance(device, GraphBackend)
    device.prepare(16, (), lengths)
    generator = np.random.default_rng(4)
    for rows, length in ((3, 4), (16, 8), (1, 8), (5, 4)):
        given = [
            generator.integers(0, 20, (rows, *tensor.shape_at(length))).astype(tensor.dtype)
            for tensor in beside.spec.inputs
        ]
        shapes = [(rows, *tensor.shape_at(length)) for tensor in beside.spec.outputs]
        expected, found = ([np.empty(shape, np.float32) for shape in shapes] for _ in range(2))
        beside.run(given, expected, np.full(rows, length, np.int32))
        device.run(given, found, np.full(rows, length, np.int32))
        for one, other in zip(expected, found, strict=True):
            assert np.allclose(one, other, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_large_rows_are_read_out_of_the_arena() -> None:
    wide = 8192  # 32 KiB: the row itself is a descriptor
    ring = Ring([("x", "float32", (wide,))], [("y", "float32", (wide,))], max_batch_size=4, queue_bytes=1 << 22)
    taker = Taker([ring.fd], [0], 0)
    device = HostDevice()
    network = Doubling(device)
    network.inputs, network.outputs = (TensorSpec("x", "float32", (wide,)),), (TensorSpec("y", "float32", (wide,)),)
    backend = GraphBackend("doubling", device, network, ModelSpec(network.inputs, network.outputs))
    backend.prepare(taker.max_batch_size(), (), ())
    pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
    number_of, seen = {}, 0
    for number in range(40):
        claim = ring.claim()
        assert claim is not None
        ring.publish(claim, [np.full(wide, number, np.float32).tobytes()])
        number_of[claim.sequence, claim.row] = number
        while len(number_of) - seen > (3 if number < 39 else 0):
            pipeline.turn(0)
            while (block := ring.poll_done()) is not None:
                for row in range(block.rows):
                    (output,) = ring.outputs(block, row)
                    assert ring.error(block, row) is None
                    assert (np.frombuffer(output, np.float32) == 2 * number_of[block.sequence, row]).all()
                    seen += 1
                ring.handled(block, range(block.rows))
    device.close()


def test_a_server_answers_from_batches_in_flight(tmp_path: Path) -> None:
    pytest.importorskip("penstock.native._dataplane", reason="needs the data plane")
    server = Server.start([str(affine(tmp_path)), "--device", "host"], tmp_path)
    try:
        with ThreadPoolExecutor(8) as clients:
            replies = list(clients.map(lambda n: server.predict(inputs=[n, 0, 0, 1]), range(200)))
        assert [reply.json()["outputs"] for reply in replies] == [{"y": [2 * n + 1, 1, 1, 3]} for n in range(200)]
    finally:
        server.stop()


def test_a_server_without_a_gpu_says_what_is_missing(tmp_path: Path) -> None:
    mend = r"device = 'cuda:999'.*(pip install|install it|nvidia-smi|built without|CUDA_VISIBLE_DEVICES)"
    with pytest.raises(ModelLoadError, match=mend):
        open_backend(affine(tmp_path), "auto", LoadOptions(device="cuda:999"))


def test_tensorrt_fails_by_its_name_where_it_is_not_installed(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    with pytest.raises(ModelLoadError, match=r"TensorRT models need tensorrt: pip install 'penstock\[tensorrt\]'"):
        open_backend(affine(tmp_path), "tensorrt", LoadOptions(device="cuda:0"))


def test_a_format_that_no_device_runs_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text("class Model: ...")
    with pytest.raises(ModelLoadError, match=r"device = 'host' is for onnx and torch and tensorrt models"):
        open_backend(model, "auto", LoadOptions(device="host"))
