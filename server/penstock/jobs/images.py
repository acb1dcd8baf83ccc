"""Images: files in, the bytes of uint8 tensors out. The one door to Pillow.

Run as a process that serves one order after another: a line of JSON on standard input, and behind it as many bytes as
it says; the answer comes on standard output in the same form. It ends with its input.
"""

from __future__ import annotations

import io
import json
import re
import resource
import struct
import sys
import warnings
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator, Mapping, Sequence
from secrets import token_hex
from typing import IO, Any, NamedTuple

from penstock.core.errors import RequestError
from penstock.core.packed import json_of
from penstock.jobs.fitting import fitted

__all__ = ["main"]

# Of the process, whatever a file makes of it.
_MEMORY_BYTES_MAX = 1 << 30
# Of the bodies that one body may become: it goes to /predict/batch, which takes no more.
_BODY_BYTES_MAX = 32 << 20

# Of an image that is to be resized.
_PIXELS_MAX = 50_000_000
_SIDE_MAX = 32_768

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
_MEDIA_TYPES = {
    "image/png": "PNG",
    "image/apng": "PNG",
    "image/jpeg": "JPEG",
    "image/jpg": "JPEG",
    "image/pjpeg": "JPEG",
    "image/webp": "WEBP",
    "image/bmp": "BMP",
    "image/x-ms-bmp": "BMP",
    "image/gif": "GIF",
}
# How files of the formats begin. Something else in a field of base64 is left to those who read tensors.
_BEGINNINGS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"BM", b"GIF8")
# How long the headers of BMP may be behind the first 14 bytes.
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Of which Pillow makes any of those in one way only.
_CONVERTIBLE = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"})
_ORIENTATION = 0x0112


def _digits_behind(keys: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern for one of these keys, its digits with what is around them, and these alone."""
    # Not the end of a longer key.
    names = "|".join(re.escape(json.dumps(key, ensure_ascii=False)) for key in keys)
    return re.compile(rf'(?<!\\)({names})[ \t\r\n]*:[ \t\r\n]*("((?:[^"\\]++|\\.)*+)")')


# Compiled here: what is made while a large body is read keeps its memory from being given back.
_FIELD = _digits_behind(["base64"])
# What stands in the place of an image that cannot be used: no input takes it, whatever its shape.
_UNUSABLE = "!"

_Json = dict[str, Any]


class _Goal(NamedTuple):
    """What an input takes: `height` is None where it varies, and is `height_max` at most."""

    name: str
    height: int | None
    height_max: int
    width: int
    channels: int
    planes: bool
    # How it comes to that size (core.status.ImageFit); None: it must have it.
    fit: tuple[Sequence[int], Sequence[int], str] | None = None

    @property
    def is_picture(self) -> bool:
        """Whether it is a field of a record, whose string is a file, and whose tensor hardly anybody sends."""
        return self.fit is not None

    @property
    def bytes(self) -> int | None:
        """How many bytes the tensor has, where that is known."""
        return None if self.height is None else self.height * self.width * self.channels


def main() -> None:
    """Serve orders until there are no more."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whether a file is too large is decided here; what Pillow would like to say of others is nobody's to read.
    warnings.simplefilter("ignore")
    serve(sys.stdin.buffer, sys.stdout.buffer)


def serve(orders: IO[bytes], answers: IO[bytes]) -> None:
    """Answer every order."""
    document = _Document(b"")
    while line := orders.readline():
        order: _Json = json.loads(line)
        content = orders.read(order["bytes"])
        data = b""
        try:
            if order["do"] == "image":
                data = _decode(content, _Goal(*order["goal"]), order["media_type"])
                answer: _Json = {}
            elif order["do"] == "names":
                document = _Document(b"")  # never two at a time
                document = _Document(json_of(content).encode() if order.get("packed") else content)
                answer = document.names()
            elif order["do"] == "forget":
                answer = {}
            else:
                data, faults = document.with_tensors([_Goal(*goal) for goal in order["goals"]], order)
                answer = {"faults": faults}
        except RequestError as error:
            answer = {"code": error.code, "detail": error.detail}
        except MemoryError:
            # What it had then taken is the system's again when it ends.
            detail = "the image takes more memory than there is for one"
            answer = {"code": "body_too_large", "detail": detail, "ends": True}
        if order["do"] != "names":
            document = _Document(b"")  # what JSON becomes may be many times as large
        answers.write(json.dumps({**answer, "bytes": len(data)}).encode() + b"\n" + data)
        answers.flush()
        if "ends" in answer:
            return


def _decode(content: bytes, goal: _Goal, media_type: str | None) -> bytes:
    """Return the tensor of a file. RequestError for everything that it may be instead."""
    try:
        from PIL import Image
    except ImportError:
        raise RequestError(
            "unsupported_media_type",
            f"inputs.{goal.name}: this server decodes no images: pip install 'penstock[images]', or send the tensor as "
            "application/json",
        ) from None
    _check_type(media_type, goal)
    Image.MAX_IMAGE_PIXELS = None  # _check_size() knows better, and before anything is decoded
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_format(image.format, media_type, goal)
            turned = _turn_of(image)
            _check_size(image.size, goal, turned=turned is not None and turned > 4, exactly=turned is not None)
            image.load()
            turned = _turn_of(image) or 1
            _check_size(image.size, goal, turned=turned > 4, exactly=True)
            return _samples(_turned(image, turned), goal)
    except (RequestError, MemoryError):
        raise
    except Exception as error:  # whatever a decoder stumbles over is the file's
        reason = (str(error).splitlines() or [""])[0][:200].replace("<_io.BytesIO object", "<")
        if type(error).__name__ == "UnidentifiedImageError":
            reason = f"it is none of {', '.join(_FORMATS)}"
        raise RequestError(
            "malformed_body", f"inputs.{goal.name}: no image that can be read: {reason or type(error).__name__}"
        ) from None


def _check_type(media_type: str | None, goal: _Goal) -> None:
    if media_type is None or media_type in _MEDIA_TYPES:
        return
    raise RequestError(
        "unsupported_media_type",
        f"inputs.{goal.name}: {media_type[:80]!r} is not decoded here; send {', '.join(_FORMATS)}, as "
        "image/png and so on, or the tensor as application/json",
    )


def _check_format(found: str | None, media_type: str | None, goal: _Goal) -> None:
    found = "JPEG" if found == "MPO" else found  # several of them in one file, of which the first is the picture
    if media_type is None or found == _MEDIA_TYPES[media_type]:
        return
    raise RequestError(
        "unsupported_media_type",
        f"inputs.{goal.name}: the file is called {media_type} and is {found}; say what it is as its Content-Type",
    )


def _turn_of(image: Any) -> int | None:
    """Return the orientation of EXIF, from 1 (none) to 8; None where a PNG may still say it behind its pixels."""
    try:
        turn = image.getexif().get(_ORIENTATION)
    except Exception:  # EXIF that cannot be read counts for nothing
        turn = 1
    if isinstance(turn, int) and 1 <= turn <= 8:
        return turn
    return None if image.format == "PNG" else 1


def _check_size(size: tuple[int, int], goal: _Goal, *, turned: bool, exactly: bool) -> None:
    """Compare before decoding: what has another size is not decoded at all."""
    if goal.fit is not None:
        _check_pixels(size, goal)
        return
    for width, height in (size[::-1] if turned else size, *(() if exactly else (size[::-1],))):
        if width == goal.width and (height == goal.height or (goal.height is None and height <= goal.height_max)):
            return
    width, height = size[::-1] if turned else size
    takes = f"{goal.width} x {goal.height}"
    if goal.height is None:
        takes = f"{goal.width} x any height up to {goal.height_max}"
    raise RequestError(
        "invalid_input",
        f"inputs.{goal.name}: the image has {width} x {height} pixels (width x height), the model takes {takes}; the "
        "server resizes nothing, so send it in that size",
    )


def _check_pixels(size: tuple[int, int], goal: _Goal) -> None:
    if size[0] * size[1] > _PIXELS_MAX or not all(1 <= side <= _SIDE_MAX for side in size):
        raise RequestError(
            "body_too_large",
            f"inputs.{goal.name}: the image has {size[0]} x {size[1]} pixels; {_PIXELS_MAX} is the most, and "
            f"{_SIDE_MAX} either way",
        )


def _turned(image: Any, turn: int) -> Any:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[turn]) if turn in turns else image


def _samples(image: Any, goal: _Goal) -> bytes:
    from PIL import Image

    if image.mode.startswith("I;16"):
        # The upper half of each sample, as Pillow itself has it of colours of 16 bits.
        upper = 0 if image.mode.endswith("B") else 1
        image = Image.frombytes("L", image.size, image.tobytes()[upper::2])
    if image.mode not in _CONVERTIBLE:
        raise RequestError(
            "invalid_input", f"inputs.{goal.name}: pixels of the kind {image.mode!r} have no one meaning in 8 bits"
        )
    wanted = _MODES[goal.channels]
    if image.mode != wanted:
        image = image.convert(wanted)
    if goal.fit is not None:
        return fitted(image.tobytes(), image.size, goal.channels, goal.fit)
    return b"".join(band.tobytes() for band in image.split()) if goal.planes else bytes(image.tobytes())


class _Place(NamedTuple):
    """Where the digits of an image stand in a body, and the quotes around them."""

    digits: tuple[int, int]
    quoted: tuple[int, int]


class _Document:
    """A body of JSON, some of whose fields of base64 are images."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._text = ""
        self._parsed: Any = None
        self._places: dict[str, _Place] = {}
        try:
            self._text = content.decode()
            self._parsed = json.loads(self._marked(_FIELD)) if content else None
        except (ValueError, RecursionError):
            pass  # the data plane says what is wrong with it

    def names(self) -> _Json:
        """Return the model and the version that it names."""
        found = self._parsed if isinstance(self._parsed, dict) else {}
        return {name: found[name] for name in ("model", "version") if isinstance(found.get(name), str)}

    def with_tensors(self, goals: list[_Goal], order: _Json) -> tuple[bytes, list[_Json]]:
        """Return it with tensors in the images' place, and which rows have images that are none."""
        if not isinstance(self._parsed, dict):
            return self._content, []
        pictures = {key for goal in goals if goal.is_picture for key in (goal.name, goal.name.rpartition(".")[2])}
        if pictures:
            self._parsed = json.loads(self._marked(_digits_behind(["base64", *sorted(pictures)])))
        faults: list[_Json] = []
        made: list[tuple[int, int, str]] = []
        known: dict[tuple[str, str, bool], str | RequestError | None] = {}
        left = _BODY_BYTES_MAX
        for row, goal, mark, is_plain in self._fields(goals, order["rows"]):
            start, end = self._places[mark].digits
            key = (goal.name, self._text[start:end], is_plain)
            if key not in known:
                known[key] = _tensor_in(key[1], goal, is_plain=is_plain)
            tensor = known[key]
            if tensor is None:
                continue
            if isinstance(tensor, RequestError):
                # Of a record all faults are told at once.
                if not order["rows"] and not goal.is_picture:
                    raise tensor
                faults.append({"row": row, "field": goal.name, "code": tensor.code, "detail": tensor.detail})
                tensor = _UNUSABLE
            if is_plain:
                made.append((*self._places[mark].quoted, f'{{"base64":"{tensor}"}}'))
            else:
                made.append((start, end, tensor))
            left -= len(tensor)
            if left < 0:
                raise RequestError(
                    "body_too_large",
                    f"the body's images become more than {_BODY_BYTES_MAX} bytes; send fewer at a time",
                )
        return self._with(sorted(made)), faults

    def _marked(self, field: re.Pattern[str]) -> str:
        """Return the text with a mark in the place of the digits of these fields, which says where they stand."""
        prefix = f"#{token_hex(16)}-"  # nothing that somebody could have written
        self._places = {}

        def mark(found: re.Match[str]) -> str:
            name = f"{prefix}{len(self._places)}"
            self._places[name] = _Place(found.span(3), found.span(2))
            return f'{found[1]}:"{name}"'

        return field.sub(mark, self._text)

    def _with(self, made: list[tuple[int, int, str]]) -> bytes:
        """Replace in the text, where everything else stays as it was written: numbers, and what is wrong with it."""
        pieces, at = [], 0
        for start, end, digits in made:
            pieces += [self._text[at:start], digits]
            at = end
        return "".join([*pieces, self._text[at:]]).encode()

    def _fields(self, goals: list[_Goal], rows: bool) -> Iterator[tuple[int, _Goal, str, bool]]:
        """Yield the marks of base64 that stands for an input that takes images, and whether it stands there alone."""
        by_name = {goal.name: goal for goal in goals}
        inputs = self._parsed.get("inputs")
        for row, values in enumerate(inputs if rows and isinstance(inputs, list) else [inputs]):
            for name, value in _members(values, "", by_name):
                goal = by_name[name]
                is_plain = goal.is_picture and isinstance(value, str)
                digits = value if is_plain else value.get("base64") if isinstance(value, dict) else None
                if not isinstance(digits, str):
                    continue
                if digits in self._places:
                    yield row, goal, digits, is_plain
                elif is_plain or _file_in(digits, goal) is not None:
                    raise RequestError(
                        "malformed_body",
                        f"inputs.{name}: an image stands behind a key written without escapes",
                    )


def _members(values: object, prefix: str, goals: Mapping[str, _Goal]) -> Iterator[tuple[str, Any]]:
    """Yield the members that goals name, also those of objects inside, by their paths."""
    for key, value in values.items() if isinstance(values, dict) else ():
        name = f"{prefix}{key}"
        if name in goals:
            yield name, value
        elif isinstance(value, dict) and any(goal.startswith(f"{name}.") for goal in goals):
            yield from _members(value, f"{name}.", goals)


def _tensor_in(text: str, goal: _Goal, *, is_plain: bool) -> str | RequestError | None:
    """Return the tensor of an image as digits, or what is wrong with it; None for what is no image."""
    try:
        digits = json.loads(f'"{text}"')
    except ValueError:
        return None
    content = _file_in(digits, goal)
    if content is None and goal.is_picture:
        content = _file_of(digits)
        if content is None:
            return RequestError("invalid_input", f"inputs.{goal.name}: expected an image in base64; this is none")
        if not is_plain and len(content) == goal.bytes:
            return None  # the tensor itself
    if content is None:
        return None
    try:
        return b64encode(_decode(content, goal, None)).decode()
    except RequestError as error:
        return error


def _file_of(digits: str) -> bytes | None:
    """Return the bytes that base64 stands for."""
    try:
        return b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (Base64Error, ValueError):
        return None


def _file_in(digits: str, goal: _Goal) -> bytes | None:
    """Return the file that base64 stands for; None when it is a tensor, or neither."""
    content = _file_of(digits)
    if content is None:
        return None
    if not content.startswith(_BEGINNINGS) or len(content) == goal.bytes:
        return None
    might_be_tensor = goal.bytes is None and len(content) % max(goal.width * goal.channels, 1) == 0
    if content.startswith(b"BM") and might_be_tensor and not _is_bmp(content):
        return None
    return content


def _is_bmp(content: bytes) -> bool:
    """Pixels may well begin with the two letters of a BMP: it has to say how long it is, and where its parts are."""
    if len(content) < 26:
        return False
    size, _, pixels, header = struct.unpack_from("<IIII", content, 2)
    return size == len(content) and header in _BMP_HEADERS and 14 + header <= pixels <= size


if __name__ == "__main__":
    main()
