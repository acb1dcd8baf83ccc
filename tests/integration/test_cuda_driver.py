"""What calls the driver of a GPU, against a stand-in for it that runs on the host (tests/cuda_driver)."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from penstock import native
from penstock.core.devices import visible_gpus

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(visible_gpus() > 0, reason="this machine has a GPU: test_cuda.py runs on it"),
    pytest.mark.skipif(not (Path(native.__path__[0]) / "kernels.fatbin").is_file(), reason="needs kernels: no nvcc"),
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which a process finds the stand-in, and two GPUs."""
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    folder = tmp_path_factory.mktemp("driver")
    sources = [ROOT / "tests/cuda_driver/driver.cpp", ROOT / "kernels/src/device/host.cpp"]
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-ffp-contract=off", f"-I{ROOT / 'kernels/include'}"]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(folder / "libcuda.so.1"), "-ldl"], check=True)
    return {**os.environ, "LD_LIBRARY_PATH": str(folder), "CUDA_VISIBLE_DEVICES": "0,1"}


def test_the_tests_of_a_gpu_pass(environment: dict[str, str]) -> None:
    # Without what other tests need: conftest.py and plugins are most of the time on a machine whose disk is busy.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"]
    command += [
        "tests/integration/test_cuda.py",
        "-k",
        "not network and not module and not inductor and not onnx and not tensorrt and not server",
    ]  # whose frameworks look for more than the stand-in is
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_in_steady_state_a_batch_is_one_call_of_the_driver(environment: dict[str, str]) -> None:
    script = """
        import ctypes
        import numpy as np
        from penstock.native._batcher import Ring, Taker
        from penstock.worker.batch import BatchRunner
        from penstock.worker.devices import open_device
        from penstock.worker.devices.pipeline import Pipeline
        from tests.integration.test_cuda import copying

        counted = ctypes.CDLL("libcuda.so.1").stand_in_calls
        names = [b"cuGraphLaunch", b"cuLaunchKernel", b"cuMemcpyAsync", b"cuStreamSynchronize", b"cuStreamQuery"]
        names += [b"cuMemAlloc_v2", b"cuMemHostAlloc", b"cuMemHostRegister_v2"]
        ring = Ring([("x", "float32", (8,))], [("y", "float32", (8,))], max_batch_size=16)
        taker = Taker([ring.fd], [0], 0)
        backend = copying(open_device("cuda:0"))
        backend.prepare(taker.max_batch_size(), (), ())
        pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
        before, batches, row = {name: counted(name) for name in names}, 0, bytes(64)
        for _ in range(200):
            ring.publish(ring.claim(), [row])
            while (block := ring.poll_done()) is None:
                pipeline.turn(0)
            ring.handled(block, range(block.rows))
        pipeline.finish()
        made = {name: counted(name) - before[name] for name in names}
        batches = ring.counters()["batches_taken"]
        print(batches == made.pop(b"cuGraphLaunch") and not any(made.values()), batches, made)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout.startswith("True"), done.stdout + done.stderr


def told(environment: dict[str, str], script: str, **more: str) -> str:
    """Return what a script prints, beside the stand-in."""
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | more, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("cuModuleLoadData:222", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION.*update the driver"),
        ("cuModuleLoadData:209", "CUDA_ERROR_NO_BINARY_FOR_GPU.*update the driver"),
        ("cuDevicePrimaryCtxRetain:46", "CUDA_ERROR_DEVICE_UNAVAILABLE.*compute mode"),
        ("cuDevicePrimaryCtxRetain:999", "CUDA_ERROR_UNKNOWN.*nvidia-smi"),
    ],
)
def test_a_gpu_that_cannot_be_opened_is_a_models_error(environment: dict[str, str], refusal: str, said: str) -> None:
    script = """
        from penstock.core.errors import ModelLoadError
        from penstock.worker.devices import open_device
        try:
            open_device("cuda:0")
        except ModelLoadError as error:
            print(error)
    """
    assert re.search(said, told(environment, script, STAND_IN_REFUSES=refusal))


def test_rows_that_cannot_be_pinned_are_a_models_error(environment: dict[str, str]) -> None:
    script = """
        from penstock.native._batcher import Ring, Taker
        from penstock.worker.batch import BatchRunner
        from penstock.worker.devices import open_device
        from penstock.worker.devices.pipeline import Pipeline
        from penstock.worker.fault import ModelFaultError
        from tests.integration.test_cuda import copying

        ring = Ring([("x", "float32", (8,))], [("y", "float32", (8,))], max_batch_size=16)
        taker = Taker([ring.fd], [0], 0)
        backend = copying(open_device("cuda:0"))
        backend.prepare(taker.max_batch_size(), (), ())
        try:
            Pipeline(taker, [backend], [BatchRunner(backend)])
        except ModelFaultError as error:
            print(error.model, error)
    """
    said = told(environment, script, STAND_IN_REFUSES="cuMemHostRegister_v2:2")
    assert re.match(
        r"0 the \d+ MiB that rows wait in cannot be pinned for cuda:0 .*OUT_OF_MEMORY.*lower queue_bytes", said
    )


def test_a_lost_device_is_known_whatever_a_library_calls_it(environment: dict[str, str]) -> None:
    script = """
        from penstock.native import _kernels
        from penstock.native._batcher import Ring, Taker
        from penstock.worker.batch import BatchRunner
        from penstock.worker.devices import DeviceLostError, open_device
        from penstock.worker.devices.backend import GraphBackend
        from penstock.worker.devices.pipeline import Pipeline
        from penstock.worker.model import ModelSpec
        from tests.integration.test_cuda import Copying

        class Fails:
            def launch(self):
                raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

        class Failing(Copying):
            def graph(self, stream, body):
                return Fails()

        gpu = open_device("cuda:0")
        ring = Ring([("x", "float32", (8,))], [("y", "float32", (8,))], max_batch_size=16)
        taker = Taker([ring.fd], [0], 0)
        backend = GraphBackend("failing", gpu, Failing(gpu), ModelSpec(Failing.inputs, Failing.outputs))
        backend.prepare(taker.max_batch_size(), (), ())
        pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
        stream, head, table = gpu.stream(), gpu.pinned(16), gpu.pinned(8)
        _kernels.write_head(int(head.array.ctypes.data), 1, 1)
        table.array[:] = 255
        stream.launch(_kernels.gather_work(head.address, (0, table.address), gpu.memory(16), 16, 1))
        ring.publish(ring.claim(), [bytes(64)])
        try:
            pipeline.turn(1000)
        except DeviceLostError as error:
            print("lost:", error)
    """
    assert told(environment, script).startswith("lost: CUDA_ERROR_ILLEGAL_ADDRESS")
