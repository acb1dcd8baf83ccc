"""Networks of the shape of ResNet-50 and BERT-base with random weights, and a small one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from penstock.worker.model import TensorSpec

__all__ = ["NETWORKS", "Shaped"]


@dataclass(frozen=True, slots=True)
class Shaped:
    """A network to measure. `image` is the size of its images, whose pixels are rows' uint8; None where rows go in."""

    name: str
    make: Callable[[], nn.Module]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows_max: int
    bound_ms: float  # of the p99 under load
    target: float  # served over offline
    image: tuple[int, int] | None = None

    @property
    def rows(self) -> tuple[TensorSpec, ...]:
        """The tensors of a row in the ring."""
        if self.image is None:
            return self.inputs
        return (TensorSpec("image", "uint8", (*self.image, 3)),)


class Mlp(nn.Module):  # type: ignore[misc]
    """Of 256 numbers: what is small enough to be all overhead."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))

    def forward(self, x: Any) -> Any:
        """Return scores."""
        return self.layers(x)


class Bottleneck(nn.Module):  # type: ignore[misc]
    """Three convolutions and the way round them (He et al., 2016)."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width_in, width, 1)
        self.second = nn.Conv2d(width, width, 3, stride, 1)
        self.third = nn.Conv2d(width, 4 * width, 1)
        around = stride != 1 or width_in != 4 * width
        self.around = nn.Conv2d(width_in, 4 * width, 1, stride) if around else nn.Identity()

    def forward(self, x: Any) -> Any:
        """Return the block's result; normalisation is folded into the convolutions, as for inference."""
        y = functional.relu(self.second(functional.relu(self.first(x))))
        return functional.relu(self.third(y) + self.around(x))


class ResNet50(nn.Module):  # type: ignore[misc]
    """Takes images with their channels last, which are its memory format too."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        width_in = 64
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for block in range(blocks):
                layers.append(Bottleneck(width_in, width, stride if block == 0 else 1))
                width_in = 4 * width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2048, 1000)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Any) -> Any:
        """Return scores of 1000 classes."""
        return self.head(self.layers(x.permute(0, 3, 1, 2)).mean((2, 3)))


class Layer(nn.Module):  # type: ignore[misc]
    """A layer of an encoder (Devlin et al., 2019)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.projected = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Any, mask: Any) -> Any:
        """Return the layer's result."""
        rows, length, width = x.shape
        parts = self.projected(x).view(rows, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(parts[0], parts[1], parts[2], attn_mask=mask)
        x = self.first(x + self.joined(seen.transpose(1, 2).reshape(rows, length, width)))
        return self.second(x + self.down(functional.gelu(self.up(x))))


class BertBase(nn.Module):  # type: ignore[misc]
    """12 layers of 768; a question's two scores for each token."""

    def __init__(self, layers: int = 12, width: int = 768, heads: int = 12, length: int = 384) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(30_522, width), nn.Embedding(length, width)
        self.kinds, self.norm = nn.Embedding(2, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.head = nn.Linear(width, 2)

    def forward(self, ids: Any, mask: Any, kinds: Any) -> Any:
        """Return the scores of where an answer begins and ends."""
        length = ids.shape[1]
        x = self.norm(self.words(ids.long()) + self.places.weight[:length] + self.kinds(kinds.long()))
        seen = mask.bool()[:, None, None, :]
        for layer in self.layers:
            x = layer(x, seen)
        return self.head(x)


_TOKENS = tuple(TensorSpec(name, "int32", (384,)) for name in ("ids", "mask", "kinds"))

NETWORKS = {
    "mlp": Shaped(
        "mlp", Mlp, (TensorSpec("x", "float32", (256,)),), (TensorSpec("y", "float32", (10,)),), 256, 5.0, 0.9
    ),
    "resnet50": Shaped(
        "resnet50",
        ResNet50,
        (TensorSpec("x", "float16", (224, 224, 3)),),
        (TensorSpec("y", "float32", (1000,)),),
        128,
        15.0,
        0.95,
        (224, 224),
    ),
    "bert": Shaped("bert", BertBase, _TOKENS, (TensorSpec("y", "float32", (384, 2)),), 64, 130.0, 0.90),
}
