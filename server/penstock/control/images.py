"""Images as inputs: which tensors take them, and the processes that decode them. Nothing is decoded in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import gevent
from gevent.lock import BoundedSemaphore
from gevent.os import make_nonblocking, nb_read, nb_write

from penstock.core.config import ImageLayout, ModelConfig
from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS
from penstock.core.status import ModelStatus, Tensor

__all__ = ["ImageGoal", "ImageReader", "goal_of"]

_MODULE = "penstock.jobs.images"
_PROCESSES_MAX = 2
# Requests that wait for one of them.
_WAITING_MAX = 64
_WAITING_BYTES_MAX = 64 << 20
_WAIT_S = 10.0
_ORDER_S = 20.0
_IDLE_S = 60.0
# A process that has served so many is replaced: what a decoder leaks ends with it.
_ORDERS_MAX = 10_000
# Of the tensors that it makes of what it got.
_TENSORS_BYTES_MAX = 32 << 20
# How many times as large a body of msgpack may be as JSON.
_JSON_OF_PACKED = 4
_PIECE_BYTES = 1 << 20
_CHANNELS = (1, 3, 4)
_HEIGHT_MAX = 65_535


class ImageGoal(NamedTuple):
    """What an image has to be for an input; `height` is None where it varies.

    `fit` is how it comes to that size: None where it must have it.
    """

    name: str
    height: int | None
    height_max: int
    width: int
    channels: int
    planes: bool
    fit: tuple[tuple[int, ...], tuple[int, ...], str] | None = None


def goal_of(tensor: Tensor, status: ModelStatus) -> ImageGoal | None:
    """Return what an image has to be for a tensor; None when the tensor is no image.

    RequestError (`unsupported_media_type`) when the shape alone does not say where its channels are.
    """
    name, dtype, shape = tensor
    config = status.config
    if dtype != "uint8" or len(shape) not in (2, 3):
        return None
    fit = status.fits.get(name)
    if fit is not None:
        goal = _goal(name, shape[0], shape[1], shape[2], 0, planes=False)
        return goal._replace(fit=(fit.resize, fit.crop, fit.filter))
    height_max = config.lengths[-1] if config.lengths else _HEIGHT_MAX
    if len(shape) == 2:
        return _goal(name, shape[0], shape[1], 1, height_max, planes=False)
    last, first = shape[2] in _CHANNELS, shape[0] in _CHANNELS
    layout = config.image_layout
    if layout is None:
        if first:
            raise _ambiguous(tensor, config, "does not say which extent is the channels")
        layout = ImageLayout.HWC
        if not last:
            return None
    if layout is ImageLayout.CHW:
        if not first:
            raise _ambiguous(tensor, config, "has no 1, 3 or 4 channels in front, as image_layout says")
        return _goal(name, shape[1], shape[2], shape[0], height_max, planes=True)
    if not last:
        raise _ambiguous(tensor, config, "has no 1, 3 or 4 channels at its end, as image_layout says")
    return _goal(name, shape[0], shape[1], shape[2], height_max, planes=False)


def _goal(
    name: str, height: int | None, width: int | None, channels: int | None, height_max: int, *, planes: bool
) -> ImageGoal:
    # Only a first extent varies.
    return ImageGoal(name, height, height_max, width or 0, channels or 0, planes)


def _ambiguous(tensor: Tensor, config: ModelConfig, why: str) -> RequestError:
    name, dtype, shape = tensor
    extents = ", ".join("any" if extent is None else str(extent) for extent in shape)
    return RequestError(
        "unsupported_media_type",
        f"inputs.{name}: {dtype} of shape [{extents}] {why}: set image_layout of the model {config.name!r} to 'hwc' "
        "(channels last) or 'chw' (channels first), or send the tensor itself",
    )


class ImageReader:
    """Processes that decode images, one order at a time each; they start when they are needed. For one hub."""

    def __init__(self, wait_s: float = _WAIT_S) -> None:
        """`wait_s`: how long a request waits for a process; its client may be gone by then."""
        self._wait_s = wait_s
        self._free = BoundedSemaphore(_PROCESSES_MAX)
        self._waiting = 0
        self._waiting_bytes = 0
        self._idle: list[_Process] = []

    def tensor(self, content: bytes, goal: ImageGoal, media_type: str | None) -> bytes:
        """Return the bytes of the tensor that an image is. RequestError when it is none that fits."""
        with self._process(len(content)) as process:
            return process.ask({"do": "image", "goal": goal, "media_type": media_type}, content)[1]

    @contextmanager
    def document(self, content: bytes, *, packed: bool = False) -> Iterator[Document]:
        """Have a body of JSON read, or one of msgpack (`packed`), which is JSON then."""
        with self._process(len(content)) as process:
            size = len(content) * (_JSON_OF_PACKED if packed else 1)
            document = Document(process, process.ask({"do": "names", "packed": packed}, content)[0], size)
            yield document
            document.forget()

    @contextmanager
    def _process(self, size: int) -> Iterator[_Process]:
        self._take_turn(size)
        process: _Process | None = None
        try:
            process = self._living() or _Process()
            yield process
        finally:
            if process is not None:
                self._give_back(process)
            self._free.release()

    def _take_turn(self, size: int) -> None:
        """Wait until a process is free. RequestError when too many do, or that lasts too long."""
        if self._waiting >= _WAITING_MAX or (self._waiting and self._waiting_bytes + size > _WAITING_BYTES_MAX):
            raise RequestError("memory_exhausted", f"{self._waiting} images wait to be decoded already; try again")
        self._waiting += 1
        self._waiting_bytes += size
        try:
            if not self._free.acquire(timeout=self._wait_s):
                raise RequestError(
                    "memory_exhausted", f"the image has waited {self._wait_s:g} s to be decoded; try again"
                )
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size

    def _living(self) -> _Process | None:
        while self._idle:
            process = self._idle.pop()
            if process.is_living:
                return process
            process.end()
        return None

    def _give_back(self, process: _Process) -> None:
        if process.is_spent:
            process.end()
            return
        self._idle.append(process)
        if not process.is_watched:
            process.is_watched = True
            gevent.spawn_later(_IDLE_S, self._retire, process, process.served)

    def _retire(self, process: _Process, served: int) -> None:
        """End it when it has served nobody since; one timer for each process, however much it serves."""
        if process.has_ended:
            return
        if process in self._idle and process.served == served:
            self._idle.remove(process)
            process.end()
        else:
            gevent.spawn_later(_IDLE_S, self._retire, process, process.served)


class Document:
    """A body of JSON that a process has read; usable as long as the process is lent."""

    def __init__(self, process: _Process, names: Mapping[str, Any], size: int) -> None:
        self._process = process
        self._size = size
        self._is_kept = True
        self.names = {name: str(names[name]) for name in ("model", "version") if name in names}

    def with_tensors(self, goals: list[ImageGoal], *, rows: bool) -> tuple[bytes, list[dict[str, Any]]]:
        """Return the body with tensors in the place of images, and the rows whose images are none.

        `rows`: the inputs are a list of rows.
        """
        self._is_kept = False
        answer, body = self._process.ask({"do": "tensors", "goals": goals, "rows": rows}, b"", self._size)
        return body, list(answer["faults"])

    def forget(self) -> None:
        """Have the process let go of it, unless it has."""
        if self._is_kept:
            self._process.ask({"do": "forget"}, b"")


class _Process:
    def __init__(self) -> None:
        self.served = 0
        self.is_watched = False
        self.has_ended = False
        self._broken = False
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            # -P: not what happens to lie in the folder that the server was started in.
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        make_nonblocking(self._to)
        make_nonblocking(self._from)
        self._came = bytearray()

    @property
    def is_spent(self) -> bool:
        """Whether it serves no more."""
        return self._broken or self.served >= _ORDERS_MAX

    @property
    def is_living(self) -> bool:
        """Whether it has not ended by itself. Its pipe tells at once; that a child has ended is heard later."""
        try:
            os.read(self._from, 1)  # the end of the pipe, or what nobody has asked for
        except BlockingIOError:
            return self._process.poll() is None
        return False

    def ask(self, order: Mapping[str, object], content: bytes, kept: int = 0) -> tuple[dict[str, Any], bytes]:
        """Give an order; what is said, and the bytes behind it. RequestError when the image is at fault.

        `kept`: how many bytes it may give back beside its tensors.
        """
        self.served += 1
        self._broken = True  # unless this ends well
        try:
            with gevent.Timeout(_ORDER_S):
                _write(self._to, json.dumps({**order, "bytes": len(content)}).encode() + b"\n")
                _write(self._to, content)
                answer = json.loads(self._line())
                if answer["bytes"] > _TENSORS_BYTES_MAX + kept:
                    raise RequestError(
                        "body_too_large", f"the image becomes more than {_TENSORS_BYTES_MAX} bytes; send a smaller one"
                    )
                data = self._bytes(answer["bytes"])
        except gevent.Timeout:
            raise RequestError("body_too_large", f"the image takes longer than {_ORDER_S:.0f} s to decode") from None
        except (OSError, EOFError):
            raise RequestError("malformed_body", "the image has ended the process that decodes it") from None
        self._broken = "ends" in answer
        if "code" in answer:
            code = str(answer["code"])
            raise RequestError(code if code in PROBLEMS else "internal_error", str(answer["detail"]))
        return answer, data

    def end(self) -> None:
        """Stop it."""
        self.has_ended = True
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        while self._process.poll() is None:
            gevent.sleep(0.005)

    def _line(self) -> bytes:
        while b"\n" not in self._came:
            self._receive()
        line, _, rest = bytes(self._came).partition(b"\n")
        self._came = bytearray(rest)
        return line

    def _bytes(self, count: int) -> bytes:
        while len(self._came) < count:
            self._receive()
        data = bytes(self._came[:count])
        del self._came[:count]
        return data

    def _receive(self) -> None:
        piece = nb_read(self._from, _PIECE_BYTES)
        if not piece:
            raise EOFError
        self._came += piece


def _write(number: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[nb_write(number, view[:_PIECE_BYTES]) :]
