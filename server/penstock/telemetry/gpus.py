"""What the GPUs of this machine are doing, by NVML. The only file that imports pynvml.

A thread of its own reads them: NVML's calls take up to milliseconds, and whoever asks for the metrics must not wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["GpuReading", "GpuWatch"]

logger = logging.getLogger("penstock.telemetry.gpus")

INTERVAL_S = 1.0

# Index, UUID, name and NVML's handle.
_Known: TypeAlias = tuple[str, str, str, Any]

# NVML's bits (nvml.h), whose names changed from throttle reasons to event reasons.
_REASONS = {
    "idle": 0x1,
    "clocks_setting": 0x2,
    "power_cap": 0x4,
    "hardware_slowdown": 0x8,
    "sync_boost": 0x10,
    "thermal": 0x20,
    "hardware_thermal": 0x40,
    "power_brake": 0x80,
}


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment. A figure that it does not tell is left out of `figures`."""

    index: str
    uuid: str
    name: str
    figures: dict[str, float] = field(default_factory=dict)
    throttled: dict[str, bool] = field(default_factory=dict)


class GpuWatch:
    """Keeps the last reading of all GPUs; nothing where there is none. Any thread may ask."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        """`interval_s` is the least time between two readings; nobody reads while nobody asks."""
        self._interval_s = interval_s
        self._library: Any = None
        self._last: tuple[GpuReading, ...] = ()
        self._asked = threading.Event()
        self._read_once = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="penstock-gpus", daemon=True)

    def start(self) -> GpuWatch:
        """Begin to watch."""
        self._thread.start()
        return self

    def wait(self, timeout_s: float) -> bool:
        """Wait for the first reading, which may say that there is no GPU; whether it is there."""
        return self._read_once.wait(timeout_s)

    def last(self) -> tuple[GpuReading, ...]:
        """Return the last reading, and have the next one made."""
        self._asked.set()
        return self._last

    def _watch(self) -> None:
        handles = self._open()
        self._read(handles)
        while handles:
            self._asked.wait()
            self._asked.clear()
            self._read(handles)
            time.sleep(self._interval_s)

    def _read(self, handles: Sequence[_Known]) -> None:
        self._last = tuple(self._reading(*known) for known in handles)
        self._read_once.set()

    def _open(self) -> list[_Known]:
        try:
            import pynvml
        except ImportError:
            return []
        try:
            pynvml.nvmlInit()
            self._library = pynvml
            found: list[_Known] = []
            for index in range(pynvml.nvmlDeviceGetCount()):
                with suppress(pynvml.NVMLError):  # one that is lost hides no other
                    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                    uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
                    found.append((str(index), str(uuid), str(name), handle))
            return found
        except pynvml.NVMLError as error:
            logger.info("no GPU is in the metrics: %s", error)
            return []

    def _reading(self, index: str, uuid: str, name: str, handle: Any) -> GpuReading:
        nvml = self._library
        reading = GpuReading(index, uuid, name)
        figures = reading.figures
        self._note(figures, lambda: _utilization(nvml, handle))
        self._note(figures, lambda: _memory(nvml, handle))
        self._note(figures, lambda: {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000})
        self._note(
            figures,
            lambda: {"temperature_celsius": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)},
        )
        self._note(figures, lambda: {"sm_clock_hertz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6})
        self._note(
            figures, lambda: {"memory_clock_hertz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * 1e6}
        )
        throttled: dict[str, float] = {}
        self._note(throttled, lambda: _throttled(nvml, handle))
        reading.throttled.update({reason: value != 0 for reason, value in throttled.items()})
        return reading

    def _note(self, into: dict[str, float], read: Any) -> None:
        try:
            into.update(read())
        # A kind of GPU, or a virtual one, that does not tell; a release of NVML that does not ask.
        except (self._library.NVMLError, AttributeError):
            return


def _utilization(nvml: Any, handle: Any) -> dict[str, float]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {"utilization_ratio": rates.gpu / 100, "memory_utilization_ratio": rates.memory / 100}


def _memory(nvml: Any, handle: Any) -> dict[str, float]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_used_bytes": memory.used, "memory_total_bytes": memory.total}


def _throttled(nvml: Any, handle: Any) -> dict[str, float]:
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except nvml.NVMLError_FunctionNotFound:  # a driver from before the change
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return {reason: bits & bit for reason, bit in _REASONS.items()}
