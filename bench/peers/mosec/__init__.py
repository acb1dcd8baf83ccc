"""mosec: a Rust front end with dynamic batching, and Python workers behind Unix sockets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from bench.peers.environment import install
from bench.peers.package import PackageTarget, Place
from penstock.load.dialects import HttpRequest
from penstock.load.rows import Row, TensorSpec

__all__ = ["Mosec", "MosecMsgpack", "PlainMsgpack"]


@dataclass(frozen=True, slots=True)
class PlainMsgpack:
    """What `PlainJson` says, in msgpack with float32 elements."""

    prefix: str = "/models/"
    name: str = "plain-msgpack"

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""
        import msgpack  # type: ignore[import-untyped]

        body: bytes = msgpack.packb({name: array.tolist() for name, array in row.items()}, use_single_float=True)
        return HttpRequest(self.prefix + model, {"Content-Type": "application/msgpack"}, body)

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read {output name: value}."""
        import msgpack

        values = msgpack.unpackb(body)
        return {spec.name: np.array(values[spec.name], dtype=spec.dtype) for spec in outputs}


class Mosec(PackageTarget):
    """mosec as it is shipped, in JSON (the standard library's, mosec's default).

    Chosen: one worker process a model, batches of at most 64 after at most 1 ms; queue of 1,024 requests, 3 s
    time-out and one front-end thread a core, which are its defaults. A second worker made it slower on two cores.
    """

    name = "mosec"
    folder = Path(__file__).parent
    packages: ClassVar[tuple[str, ...]] = ("mosec",)
    ready_path = "/"  # answered once every model's worker has loaded
    encoding: ClassVar[str] = "json"

    def make_environment(self, environments: Path) -> Path:
        """Install what both encodings share."""
        return install("mosec", environments, self.folder / "requirements.txt")

    def command(self, place: Place) -> Sequence[str]:
        """Start mosec's own server."""
        app = self.folder / "serving" / "app.py"
        return [str(place.python), str(app), self.encoding, "--address", "127.0.0.1", "--port", str(place.port)]


class MosecMsgpack(Mosec):
    """mosec with its msgpack mixin."""

    name = "mosec-msgpack"
    packages = ("mosec", "msgpack")
    encoding = "msgpack"
    dialect = PlainMsgpack()
