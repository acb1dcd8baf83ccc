"""The step for images: from a file to the numbers of its pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from penstock.core.errors import ModelLoadError
from penstock.core.status import ImageFit
from penstock.core.written_file import WrittenFile
from penstock.processing.steps.step import Column, Steps, given, numbers_of

__all__ = ["Picture"]

_SIDE_MAX = 8192


@dataclass(frozen=True, slots=True)
class Picture:
    """The pixels of an image as an input of the model by themselves.

    It is resized and cropped as `fit` says when its file is decoded. With a mean and a deviation for each channel, of
    values from 0 to 1, each value becomes (value / 255 - mean) / deviation; without them it stays what it is.
    `channels_first`: whether the model wants one plane behind the other.
    """

    MODES: ClassVar = {"L": 1, "RGB": 3, "RGBA": 4}
    FILTERS: ClassVar = ("nearest", "box", "bilinear", "bicubic", "lanczos")
    LAYOUTS: ClassVar = ("channels-first", "channels-last")

    mode: str
    fit: ImageFit
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    channels_first: bool = True

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Picture:
        allowed = ("resize", "crop", "filter", "mean", "std", "layout")
        reading.members(members, where, needed=("image",), allowed=allowed)
        mode = reading.choice(members["image"], f"{where}.image", tuple(cls.MODES))
        resize, crop = _sides(reading, members, "resize", where), _sides(reading, members, "crop", where)
        if len(crop) != 2 and len(resize) != 2:
            raise reading.error(where, "does not say how large images become: add resize = [HEIGHT, WIDTH], or crop")
        if len(resize) == 2 and crop and (crop[0] > resize[0] or crop[1] > resize[1]):
            raise reading.error(f"{where}.crop", f"is {list(crop)}, which is more than resize {list(resize)} leaves")
        if len(resize) == 1 and max(crop) > resize[0]:
            raise reading.error(f"{where}.crop", f"is {list(crop)}, which is more than the short side {resize[0]}")
        filter = reading.choice(members.get("filter", "bilinear"), f"{where}.filter", cls.FILTERS)
        layout = reading.choice(members.get("layout", "channels-first"), f"{where}.layout", cls.LAYOUTS)
        mean, deviation = (numbers_of(reading, members.get(name, []), f"{where}.{name}") for name in ("mean", "std"))
        if len(mean) != len(deviation) or len(mean) not in (0, cls.MODES[mode]):
            raise reading.error(where, f"must have a mean and a std for each of {cls.MODES[mode]} channels, or neither")
        if 0 in deviation:
            raise reading.error(f"{where}.std", "has a 0: nothing can be divided by it")
        return cls(mode, ImageFit(resize, crop, filter), mean, deviation, layout == "channels-first")

    def members(self) -> dict[str, Any]:
        resize = self.fit.resize
        return given(
            {
                "image": self.mode,
                "resize": resize[0] if len(resize) == 1 else list(resize),
                "crop": list(self.fit.crop),
                "filter": self.fit.filter,
                "mean": list(self.mean),
                "std": list(self.deviation),
                "layout": self.LAYOUTS[0 if self.channels_first else 1],
            }
        )

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        raise ModelLoadError(f"the image {column.name!r} is an input by itself: nothing else can be done to it")

    @property
    def channels(self) -> int:
        """How many values a pixel has."""
        return self.MODES[self.mode]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what becomes of an image."""
        height, width = self.fit.crop or self.fit.resize
        return height, width

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the model's input."""
        return (self.channels, *self.size) if self.channels_first else (*self.size, self.channels)


def _sides(reading: WrittenFile, members: Mapping[str, Any], name: str, where: str) -> tuple[int, ...]:
    if name not in members:
        return ()
    value = members[name]
    items = reading.items([value] if type(value) is int and name == "resize" else value, f"{where}.{name}", "sizes")
    sides = tuple(reading.whole(item, f"{where}.{name}", least=1) for item in items)
    if len(sides) > 2 or (len(sides) != 2 and not (name == "resize" and len(sides) == 1)) or max(sides) > _SIDE_MAX:
        what = "the short side, or [HEIGHT, WIDTH]" if name == "resize" else "[HEIGHT, WIDTH]"
        raise reading.error(f"{where}.{name}", f"must be {what}, of {_SIDE_MAX} at most")
    return sides
