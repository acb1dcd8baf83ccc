"""How the rows of a batch become the inputs of a network on a device: kernels that read rows where they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from penstock.native import _kernels
from penstock.native._kernels import DeviceWork
from penstock.processing.feature_program import FeatureProgram
from penstock.processing.program import Origin, Wiring
from penstock.processing.steps.images import Picture
from penstock.worker.arrays import Array
from penstock.worker.devices import Device, DeviceArray
from penstock.worker.model import TensorSpec

__all__ = ["Feed", "PlainFeed", "PlanFeed", "feeds_device", "row_bytes"]


class Feed(Protocol):
    """Makes the inputs of a network."""

    def works(
        self, head: int, addresses: Sequence[int], targets: Sequence[DeviceArray], length: int
    ) -> list[DeviceWork]:
        """Return the launches for one batch.

        `addresses[i]` is where the addresses of the rows of tensor i stand, `targets` are the network's inputs.
        """


def row_bytes(tensor: TensorSpec, length: int = 0) -> int:
    """Return the bytes of a row of numbers."""
    return math.prod(tensor.shape_at(length)) * np.dtype(tensor.dtype).itemsize


class PlainFeed:
    """The network's inputs are the rows' tensors."""

    def __init__(self, inputs: Sequence[TensorSpec]) -> None:
        self._inputs = inputs

    def works(
        self, head: int, addresses: Sequence[int], targets: Sequence[DeviceArray], length: int
    ) -> list[DeviceWork]:
        """Return a gathering of each tensor."""
        return [
            _kernels.gather_work(
                head, (0, rows), target.address, row_bytes(tensor, length), target.shape[0], _kernels.BUS_BLOCKS
            )
            for tensor, rows, target in zip(self._inputs, addresses, targets, strict=True)
        ]


def feeds_device(wiring: Wiring) -> bool:
    """Tell whether a device can make all of these inputs: words and tokens are counted by the host."""
    strings = {place for place, (_, dtype, _) in enumerate(wiring.sources) if dtype in ("bytes", "str")}
    taken = {place for origin, place in wiring.inputs if origin is Origin.SOURCE}
    return not (wiring.words or wiring.tokens or strings & taken)


class PlanFeed:
    """The network's inputs are made of records, by the kernels of the CUDA lane."""

    def __init__(self, wiring: Wiring, inputs: Sequence[TensorSpec], device: Device) -> None:
        """ValueError for a program that no block of a device has room for."""
        self._wiring = wiring
        self._inputs = inputs
        self._program = FeatureProgram(wiring, [tensor.name for tensor in inputs])
        self._steps = _kernels.DeviceSteps(list(wiring.numbers), list(wiring.steps), list(wiring.matrices))
        self._constants = device.constants(self._steps.constants)
        self._matrices = {place: i for i, (origin, place) in enumerate(wiring.inputs) if origin is Origin.MATRIX}
        self._images = [(of, _pixels(of.step, inputs[of.input].dtype)) for of in wiring.images]

    def works(
        self, head: int, addresses: Sequence[int], targets: Sequence[DeviceArray], length: int
    ) -> list[DeviceWork]:
        """Return one launch for the program, one for each input of images or as it came."""
        rows_max = targets[0].shape[0]
        found: list[DeviceWork] = []
        if self._matrices:
            sources = [(0, addresses[place]) for place in self._wiring.numeric]
            results = [targets[self._matrices[place]].address for place in range(len(self._wiring.matrices))]
            found.append(self._steps.work(self._constants, head, sources, results, rows_max))
        for number, (origin, place) in enumerate(self._wiring.inputs):
            if origin is Origin.SOURCE:
                size = row_bytes(self._inputs[number])
                to = targets[number].address
                work = _kernels.gather_work(head, (0, addresses[place]), to, size, rows_max, _kernels.BUS_BLOCKS)
                found.append(work)
        for of, images in self._images:  # which need no constants: the job that decodes images fits them
            rows, to = (0, addresses[of.source]), targets[of.input].address
            found.append(images.work(0, head, rows, to, rows_max, _kernels.BUS_BLOCKS))
        return found

    def faults(self, rows: Sequence[Array]) -> dict[int, str]:
        """Return the first fault of each row that is unfit: the device says only that there is one."""
        matrices = [np.empty((len(rows[0]), columns), dtype) for dtype, columns, _ in self._wiring.matrices]
        return self._program.faults([rows[place] for place in self._wiring.numeric], matrices)


def _pixels(step: Picture, dtype: str) -> _kernels.DeviceImages:
    height, width = step.size
    scale = [1 / (255 * deviation) for deviation in step.deviation] or [1.0] * step.channels
    pairs = zip(step.mean, step.deviation, strict=True)
    offset = [-mean / deviation for mean, deviation in pairs] or [0.0] * step.channels
    size = (height, width)
    whole = (0.0, 0.0, float(width), float(height))
    return _kernels.DeviceImages(size, size, dtype, step.channels_first, scale, offset, "bilinear", whole)
