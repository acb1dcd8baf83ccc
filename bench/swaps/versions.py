"""The versions that are swapped: alike in everything but their weights, registered and promoted over REST."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from bench.models import W1_WIDTHS, mlp_answers, mlp_layers, write_exported_mlp, write_mlp, write_saved_mlp
from bench.server import Penstock
from bench.swaps.answers import KnownAnswers
from bench.swaps.seconds import Swap
from bench.swaps.sizes import rings_of
from penstock.load.rows import TensorSpec, random_rows

__all__ = ["FORMATS", "MODEL", "VERSIONS", "SwapError", "Swapper", "known_answers", "post", "register_versions"]

MODEL = "swapped"
# Versions by the seed of their weights.
VERSIONS: Mapping[str, int] = {"1": 1, "2": 2}
ROWS = 512
FORMATS: Mapping[str, tuple[str, Callable[[Path, Sequence[int], int], Path]]] = {
    "onnx": ("model.onnx", write_mlp),
    "pytorch": ("model.pt2", write_exported_mlp),
    "tensorflow": ("saved", write_saved_mlp),
}
GONE_SECONDS = 120.0
# Frameworks take long to import at idle priority; the server itself gives up after load_timeout_s.
CHANGE_SECONDS = 300.0
POLL_SECONDS = 0.02
# What a swap is thought to take: before the first one, and over those of late. The load must not end meanwhile.
FIRST_SWAP_SECONDS = 6.0
MARGIN = 1.5
LATE = 20


class SwapError(Exception):
    """A swap did not happen, or what was swapped out stayed in memory."""


def known_answers() -> KnownAnswers:
    """Draw rows and compute what each version answers to them, one row at a time."""
    rows = random_rows([TensorSpec("x", "float32", W1_WIDTHS[:1])], ROWS)
    return KnownAnswers(
        rows, {version: mlp_answers(mlp_layers(W1_WIDTHS, seed), rows) for version, seed in VERSIONS.items()}
    )


def register_versions(server: Penstock, form: str, folder: Path) -> None:
    """Write the versions in a format and register them; the last one is promoted last."""
    name, write = FORMATS[form]
    for version, seed in VERSIONS.items():
        path = folder / version / name
        if not path.exists():
            write(path, W1_WIDTHS, seed)
        post(server, "/models", {"name": MODEL, "version": version, "path": str(path.absolute())})
        post(server, f"/models/{MODEL}/promote", {"version": version})


def post(server: Penstock, path: str, document: Mapping[str, object]) -> None:
    """Ask the control plane to change something; SwapError when it does not."""
    body = json.dumps(document).encode()
    status, answer = server.request("POST", path, body, {"Content-Type": "application/json"}, CHANGE_SECONDS)
    if status not in (200, 201):
        raise SwapError(f"POST {path} {document}: {status} {answer[:1000].decode(errors='replace')}")


@dataclass(slots=True)
class Swapper:
    """Promotes the versions in turn: `burst` of them one after the other, then a rest, and again.

    The rest is what steady seconds are taken from.
    """

    server: Penstock
    burst: int
    rest_seconds: float
    swaps: list[Swap] = field(default_factory=list)

    @property
    def expected_seconds(self) -> float:
        """What most swaps take, as far as is known."""
        late = self._late_seconds()
        return MARGIN * statistics.median(late) if late else FIRST_SWAP_SECONDS

    @property
    def longest_seconds(self) -> float:
        """What one may take, as far as is known: none begins so shortly before the end."""
        return MARGIN * max(self._late_seconds(), default=FIRST_SWAP_SECONDS)

    def run(self, ends_ns: int, count: int, stop: Event) -> list[Swap]:
        """Swap at most `count` times, and begin none that may not end before `ends_ns`; those that were done."""
        done: list[Swap] = []
        while len(done) < count and not stop.is_set():
            if len(done) % self.burst == 0 and stop.wait(self.rest_seconds):
                break
            if time.monotonic_ns() + self.longest_seconds * 1e9 > ends_ns:
                break
            done.append(self._swap())
            self.swaps.append(done[-1])
        return done

    def _swap(self) -> Swap:
        """Load the version that is not there, let it answer, and wait until the other one has left memory."""
        names = list(VERSIONS)
        version = names[len(self.swaps) % len(names)]
        before = rings_of(self.server.pid)
        began = time.monotonic_ns()
        post(self.server, f"/models/{MODEL}/promote", {"version": version})
        returned = time.monotonic_ns()
        while rings_of(self.server.pid) > before:
            if time.monotonic_ns() - returned > GONE_SECONDS * 1e9:
                raise SwapError(f"{GONE_SECONDS:g} s after version {version} took over, the other is still in memory")
            time.sleep(POLL_SECONDS)
        return Swap(version, began, returned, time.monotonic_ns())

    def _late_seconds(self) -> list[float]:
        return [(swap.gone_ns - swap.began_ns) / 1e9 for swap in self.swaps[-LATE:]]
