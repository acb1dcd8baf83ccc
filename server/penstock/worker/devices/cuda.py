"""An NVIDIA GPU through the driver's own interface. The only file that imports cuda.bindings.

Everything happens on the device's primary context, which the frameworks' runtimes use too: their memory and streams are
ours, and ours theirs.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from penstock import native
from penstock.core.errors import ModelLoadError
from penstock.native._kernels import DeviceWork
from penstock.worker.arrays import Array
from penstock.worker.devices import DeviceArray, DeviceLostError, DeviceMemoryError, Graph, Pinned

__all__ = ["CudaDevice", "CudaError", "open_cuda", "survey"]

KERNELS = "kernels.fatbin"
PAGE_BYTES = 4096
# A flag is read again and again for so long before a batch is due. Earlier the thread sleeps, which takes up to 60 us
# longer than asked for; later than SPIN_MAX_S it does so again, because something else holds the batch up.
SPIN_S = 200e-6
SPIN_MAX_S = 2e-3
NAP_S = 50e-6
# sm_80: the oldest that the kernels are compiled for.
CAPABILITY_MIN = (8, 0)

# After these a context is of no more use: the process must end (CUDA driver API: "leaves the process in an inconsistent
# state", and what a device says that is gone).
_STICKY = frozenset(
    {
        "CUDA_ERROR_ILLEGAL_ADDRESS",
        "CUDA_ERROR_LAUNCH_TIMEOUT",
        "CUDA_ERROR_ASSERT",
        "CUDA_ERROR_HARDWARE_STACK_ERROR",
        "CUDA_ERROR_ILLEGAL_INSTRUCTION",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
        "CUDA_ERROR_INVALID_ADDRESS_SPACE",
        "CUDA_ERROR_INVALID_PC",
        "CUDA_ERROR_LAUNCH_FAILED",
        "CUDA_ERROR_ECC_UNCORRECTABLE",
        "CUDA_ERROR_NVLINK_UNCORRECTABLE",
        "CUDA_ERROR_CONTEXT_IS_DESTROYED",
        "CUDA_ERROR_DEINITIALIZED",
        "CUDA_ERROR_DEVICE_UNAVAILABLE",
        "CUDA_ERROR_MPS_CLIENT_TERMINATED",
        "CUDA_ERROR_MPS_RPC_FAILURE",
        "CUDA_ERROR_EXTERNAL_DEVICE",
        "CUDA_ERROR_CONTAINED",
        "CUDA_ERROR_TENSOR_MEMORY_LEAK",
        "CUDA_ERROR_UNKNOWN",
    }
)


class CudaError(Exception):
    """The driver refused a call; the context lives on."""


def survey() -> dict[str, Any]:
    """Say what GPUs the driver has, without taking one: name and compute capability of each, or what is missing."""
    found: dict[str, Any] = {"bindings": False, "missing": "", "devices": []}
    try:
        from cuda.bindings import driver
    except ImportError:
        return found | {"missing": "models on a GPU need cuda-bindings, which is not installed"}
    found["bindings"] = True
    try:
        status = driver.cuInit(0)[0]
    except Exception:  # the bindings load the driver now, and have an exception of their own for that
        return found | {"missing": "there is no NVIDIA driver (libcuda.so.1) here, or it was given to no container"}
    if int(status) != 0:
        return found | {"missing": f"the NVIDIA driver does not start: {status.name}"}
    attributes = driver.CUdevice_attribute
    for ordinal in range(_value(driver, driver.cuDeviceGetCount())):
        device = _value(driver, driver.cuDeviceGet(ordinal))
        name = _value(driver, driver.cuDeviceGetName(128, device)).rstrip(b"\0").decode()
        capability = [
            _value(driver, driver.cuDeviceGetAttribute(attribute, device))
            for attribute in (
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        ]
        found["devices"].append({"name": name, "capability": capability})
    return found


def open_cuda(ordinal: int) -> CudaDevice:
    """Open a GPU by its number; ModelLoadError says what is missing and how to mend it."""
    name = f"cuda:{ordinal}"
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise ModelLoadError(
            f"device = {name!r} needs cuda-bindings: pip install 'penstock[gpu]', or set device = 'cpu'"
        ) from error
    kernels = Path(native.__path__[0]) / KERNELS
    if not kernels.is_file():
        raise ModelLoadError(
            f"device = {name!r}: this Penstock was built without nvcc and has no kernels for a GPU: build it where "
            "nvcc is on PATH (`make nvcc setup` in a clone brings one), or set device = 'cpu'"
        )
    try:
        status = driver.cuInit(0)[0]
    except Exception as error:  # the bindings load the driver now, and have an exception of their own for that
        raise ModelLoadError(
            f"device = {name!r}: there is no NVIDIA driver (libcuda.so.1) on this machine: install it, give the "
            "container the GPU (docker run --gpus all), or set device = 'cpu'"
        ) from error
    if int(status) != 0:
        raise ModelLoadError(
            f"device = {name!r}: the NVIDIA driver does not start: {status.name}. Look at nvidia-smi, or set "
            "device = 'cpu'"
        )
    try:
        return _opened(driver, ordinal, kernels.read_bytes())
    except (CudaError, DeviceLostError) as error:
        raise ModelLoadError(_why_not(name, str(error))) from error


def _opened(driver: Any, ordinal: int, kernels: bytes) -> CudaDevice:
    count = _value(driver, driver.cuDeviceGetCount())
    if ordinal >= count:
        raise ModelLoadError(
            f"device = 'cuda:{ordinal}': there {'is' if count == 1 else 'are'} {count} GPU{'' if count == 1 else 's'} "
            "here, numbered from 0 (CUDA_VISIBLE_DEVICES chooses among them)"
        )
    return CudaDevice(driver, ordinal, kernels)


def _why_not(name: str, said: str) -> str:
    """Say what a GPU refused when it was opened, and how to mend it."""
    if "UNSUPPORTED_PTX_VERSION" in said or "NO_BINARY_FOR_GPU" in said or "INVALID_IMAGE" in said:
        mend = "the driver is older than the nvcc that compiled Penstock's kernels, or the GPU newer: update the driver"
    elif "DEVICE_UNAVAILABLE" in said:
        mend = "another process has the GPU to itself: look at its compute mode (nvidia-smi -q -d COMPUTE)"
    else:
        mend = "look at nvidia-smi and at the kernel's log (dmesg | grep Xid)"
    return f"device = {name!r} cannot be opened ({said}): {mend}, or set device = 'cpu'"


def _check(driver: Any, status: Any) -> None:
    if int(status) == 0:
        return
    name = status.name
    _, text = driver.cuGetErrorString(status)
    said = f"{name}: {text.decode() if text else 'unknown'}"
    if name == "CUDA_ERROR_OUT_OF_MEMORY":
        raise DeviceMemoryError(said)
    if name in _STICKY:
        raise DeviceLostError(said)
    raise CudaError(said)


def _value(driver: Any, result: tuple[Any, ...]) -> Any:
    """Return what a call gave beside its status."""
    _check(driver, result[0])
    return result[1] if len(result) == 2 else result[1:]


class CudaDevice:
    """See Device."""

    def __init__(self, driver: Any, ordinal: int, kernels: bytes) -> None:
        self.name = f"cuda:{ordinal}"
        self.ordinal = ordinal
        self._driver = driver
        self._device = _value(driver, driver.cuDeviceGet(ordinal))
        self.title = _value(driver, driver.cuDeviceGetName(128, self._device)).rstrip(b"\0").decode()
        attributes = driver.CUdevice_attribute
        capability = (
            self._attribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
            self._attribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
        )
        if capability < CAPABILITY_MIN:
            raise ModelLoadError(
                f"device = {self.name!r}: {self.title} has compute capability {capability[0]}.{capability[1]}, and "
                "Penstock's kernels need 8.0 or later (Ampere): set device = 'cpu'"
            )
        self._context = _value(driver, driver.cuDevicePrimaryCtxRetain(self._device))
        _check(driver, driver.cuCtxSetCurrent(self._context)[0])
        self._module = _value(driver, driver.cuModuleLoadData(kernels))
        # All at once: one that is first asked for while work is written down would be loaded then.
        names = ("penstock_gather", "penstock_steps", "penstock_images", "penstock_signal")
        self._functions = {
            name: _value(driver, driver.cuModuleGetFunction(self._module, name.encode())) for name in names
        }
        self._registered: list[int] = []
        self._allocated: list[Any] = []
        self._pinned: list[int] = []

    @property
    def driver(self) -> Any:
        """The module of the driver's functions."""
        return self._driver

    def register(self, address: int, size: int) -> int:
        """Pin memory of this process, page by page: done once, when it is attached. A mapping's last page is whole."""
        driver = self._driver
        size = -(-size // PAGE_BYTES) * PAGE_BYTES
        flags = driver.CU_MEMHOSTREGISTER_DEVICEMAP | driver.CU_MEMHOSTREGISTER_PORTABLE
        _check(driver, driver.cuMemHostRegister(address, size, flags)[0])
        self._registered.append(address)
        return int(_value(driver, driver.cuMemHostGetDevicePointer(address, 0)))

    def pinned(self, size: int) -> Pinned:
        """Return pinned memory of zeros."""
        driver = self._driver
        flags = driver.CU_MEMHOSTALLOC_DEVICEMAP | driver.CU_MEMHOSTALLOC_PORTABLE
        address = int(_value(driver, driver.cuMemHostAlloc(max(size, 1), flags)))
        self._pinned.append(address)
        array = np.frombuffer(memoryview((ctypes.c_uint8 * size).from_address(address)), np.uint8)
        array[:] = 0
        return Pinned(array, int(_value(driver, driver.cuMemHostGetDevicePointer(address, 0))))

    def memory(self, size: int) -> int:
        """Return the address of memory of the device, zeros."""
        address = self._room(size)
        _check(self._driver, self._driver.cuMemsetD8(address, 0, max(size, 1))[0])
        self._settle()
        return int(address)

    def constants(self, data: bytes) -> int:
        """Return the address of a copy of these bytes on the device."""
        address = self._room(len(data))
        if data:
            _check(self._driver, self._driver.cuMemcpyHtoD(address, data, len(data))[0])
            self._settle()
        return int(address)

    def view(self, array: DeviceArray) -> Array:
        """Raise ValueError: NumPy cannot look into a GPU."""
        raise ValueError(f"{self.name} has memory of its own")

    def stream(self) -> CudaStream:
        """Return a new stream, which waits for no other."""
        driver = self._driver
        handle = _value(driver, driver.cuStreamCreate(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))
        return CudaStream(self, handle)

    def function(self, name: str) -> Any:
        """Return a kernel by its name."""
        return self._functions[name]

    def rest(self, left_s: float) -> None:
        """Sleep while there is time, and return at once when there is little: flags are read in a loop then."""
        if left_s > SPIN_S:
            time.sleep(left_s - SPIN_S)
        elif left_s < -SPIN_MAX_S:
            time.sleep(NAP_S)

    def memory_bytes(self) -> tuple[int, int]:
        """Return how many bytes are free, and how many there are."""
        free, total = _value(self._driver, self._driver.cuMemGetInfo())
        return int(free), int(total)

    def driver_facts(self) -> dict[str, str]:
        """Return what a report says beside the GPU's name."""
        attributes = self._driver.CUdevice_attribute
        major = self._attribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
        minor = self._attribute(attributes.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
        version = int(_value(self._driver, self._driver.cuDriverGetVersion()))
        return {
            "compute_capability": f"{major}.{minor}",
            "driver_cuda": f"{version // 1000}.{version % 1000 // 10}",
            "multiprocessors": str(self._attribute(attributes.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)),
        }

    def close(self) -> None:
        """Give memory back. A lost device takes nothing back: the process's end does it.

        Streams and kernels go with the context: sessions and graphs of the frameworks, which live longer, use them.
        """
        driver = self._driver
        driver.cuCtxSynchronize()
        for address in self._registered:
            driver.cuMemHostUnregister(address)
        for address in self._pinned:
            driver.cuMemFreeHost(address)
        for memory in self._allocated:
            driver.cuMemFree(memory)
        driver.cuDevicePrimaryCtxRelease(self._device)

    def _room(self, size: int) -> Any:
        address = _value(self._driver, self._driver.cuMemAlloc(max(size, 1)))
        self._allocated.append(address)
        return address

    def _settle(self) -> None:
        """Wait for the null stream, in which memory is set and copied.

        Those calls may return before they are done (CUDA driver API, "API synchronization behavior"), and our streams
        do not wait for it.
        """
        _check(self._driver, self._driver.cuStreamSynchronize(self._driver.CUstream(0))[0])

    def _attribute(self, attribute: Any) -> int:
        return int(_value(self._driver, self._driver.cuDeviceGetAttribute(attribute, self._device)))


class CudaStream:
    """See Stream."""

    def __init__(self, device: CudaDevice, raw: Any) -> None:
        self.raw = raw
        self.handle = int(raw)
        self._device = device
        self._driver = device.driver

    def launch(self, work: DeviceWork) -> None:
        """Append a kernel; the driver copies its parameters."""
        blocks, threads, shared = work.grid
        data = work.parameters
        parameters = ctypes.create_string_buffer(data, len(data))
        pointers = (ctypes.c_void_p * 1)(ctypes.addressof(parameters))
        function = self._device.function(work.kernel)
        result = self._driver.cuLaunchKernel(
            function, blocks, 1, 1, threads, 1, 1, shared, self.raw, ctypes.addressof(pointers), 0
        )
        _check(self._driver, result[0])

    def copy(self, to: int, source: int, size: int) -> None:
        """Append a copy by the copy engine."""
        _check(self._driver, self._driver.cuMemcpyAsync(to, source, size, self.raw)[0])

    def call(self, work: Callable[[], None]) -> None:
        """Let `work` append to this stream."""
        work()

    def capture(self, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends. Other threads may go on calling the driver."""
        driver = self._driver
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _check(driver, driver.cuStreamBeginCapture(self.raw, mode)[0])
        try:
            body()
        except BaseException:
            driver.cuStreamEndCapture(self.raw)  # which then gives no graph
            raise
        graph = _value(driver, driver.cuStreamEndCapture(self.raw))
        try:
            return _CudaGraph(self, _value(driver, driver.cuGraphInstantiate(graph, 0)))
        finally:
            driver.cuGraphDestroy(graph)

    def synchronize(self) -> None:
        """Wait until all is done."""
        _check(self._driver, self._driver.cuStreamSynchronize(self.raw)[0])

    def fault(self) -> BaseException | None:
        """Return None: what goes wrong on a GPU takes the context with it, which is raised."""
        status = self._driver.cuStreamQuery(self.raw)[0]
        if status.name != "CUDA_ERROR_NOT_READY":
            _check(self._driver, status)
        return None


class _CudaGraph:
    def __init__(self, stream: CudaStream, executable: Any) -> None:
        self._raw = stream.raw
        self._executable = executable
        self._driver = stream._driver
        self._launch = stream._driver.cuGraphLaunch

    def launch(self) -> None:
        status = self._launch(self._executable, self._raw)[0]
        if status != 0:
            _check(self._driver, status)
