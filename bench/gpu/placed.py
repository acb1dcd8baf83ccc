"""Networks on a device, as a worker has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from bench.gpu.networks import Shaped
from penstock.native import _kernels
from penstock.native._kernels import DeviceWork
from penstock.worker.backends.torch_device import TorchNetwork
from penstock.worker.backends.torch_model import TorchModel
from penstock.worker.devices import Device, DeviceArray
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.model import ModelSpec

__all__ = ["place_network", "torch_device"]

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageFeed:
    """Pixels of rows as the network takes them: one kernel that reads them over the bus and writes float16."""

    def __init__(self, shaped: Shaped) -> None:
        assert shaped.image is not None
        height, width = shaped.image
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)]
        whole = (0.0, 0.0, float(width), float(height))
        dtype = shaped.inputs[0].dtype
        self._images = _kernels.DeviceImages(shaped.image, shaped.image, dtype, False, scale, offset, "bilinear", whole)

    def works(
        self, head: int, addresses: Sequence[int], targets: Sequence[DeviceArray], length: int
    ) -> list[DeviceWork]:
        """See Feed."""
        rows, to = (0, addresses[0]), targets[0]
        return [self._images.work(0, head, rows, to.address, to.shape[0], _kernels.BUS_BLOCKS)]


def torch_device(device: Device) -> torch.device:
    """Return what PyTorch calls it."""
    return torch.device("cpu" if device.name == "host" else device.name)


def place_network(shaped: Shaped, device: Device) -> tuple[GraphBackend, Any]:
    """Return a backend for batches in flight, and the module itself."""
    where = torch_device(device)
    torch.manual_seed(0)
    module: Any = shaped.make().eval().requires_grad_(False)
    half = where.type != "cpu"
    module = (module.half() if half else module.float()).to(where)

    def call(tensors: list[Any]) -> Any:
        given = [
            each.to(torch.float16 if half else torch.float32) if each.is_floating_point() else each for each in tensors
        ]
        return module(*given).float()

    model = TorchModel(call, shaped.inputs, shaped.outputs)
    network = TorchNetwork(device, model, where, torch.float32)
    backend = GraphBackend("torch", device, network, ModelSpec(shaped.inputs, shaped.outputs))
    if shaped.image is not None:
        backend.process(ImageFeed(shaped), shaped.rows, None, None)
    return backend, module
