"""The soak itself: a server, clients, slow readers, a killer of workers, and the verdict."""

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.models import PYTHON_MODEL, W1_WIDTHS, write_mlp
from bench.server import Penstock, penstock
from bench.soak.clients import Client, Tally
from bench.soak.requests import ONNX_MODEL, PYTHON_MODEL_NAME, KnownRows, RequestMaker
from bench.wire import Wire, request_bytes
from penstock.load.accounting import memory_of

__all__ = ["SoakOptions", "SoakResult", "run_soak"]

SAMPLE_SECONDS = 1.0
SLOW_READERS = 4
# After this part of the time memory has reached its level, and from there it may grow by this much.
WARM_UP_SHARE = 0.2
GROWTH_BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class SoakOptions:
    """How long and how hard."""

    folder: Path
    seconds: float = 1800.0
    clients: int = 8
    kill_every_seconds: float = 10.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class SoakResult:
    """What was seen. `rss` are bytes of the main process: after warming up, at the end, at most."""

    counts: dict[str, int]
    complaints: tuple[str, ...]
    kills: int
    restarts: int
    lost_wakeups: int
    rss_warm: int
    rss_end: int
    rss_max: int

    def failures(self) -> list[str]:
        """Say what must not be; empty when all is well."""
        found = [*self.complaints]
        if self.lost_wakeups:
            found.append(f"{self.lost_wakeups} lost wake-ups")
        if self.rss_end > self.rss_warm + GROWTH_BYTES_MAX:
            found.append(f"memory grew from {self.rss_warm >> 20} to {self.rss_end >> 20} MiB")
        if not self.counts.get("right") or not self.counts.get("refused"):
            found.append(f"nothing was answered: {self.counts}")
        if self.restarts < self.kills - 1:  # the last one may be on its way
            found.append(f"{self.kills} workers were killed, {self.restarts} restarted")
        return found


def run_soak(options: SoakOptions) -> SoakResult:
    """Run to the end; see SoakResult.failures() for the verdict."""
    options.folder.mkdir(parents=True, exist_ok=True)
    onnx = write_mlp(options.folder / f"{ONNX_MODEL}.onnx", W1_WIDTHS)
    python = options.folder / f"{PYTHON_MODEL_NAME}.py"
    python.write_text(PYTHON_MODEL)
    with penstock(options.folder / "server", {ONNX_MODEL: onnx, PYTHON_MODEL_NAME: python}) as server:
        return _Soak(options, server, RequestMaker.known_rows(onnx)).run()


class _Soak:
    def __init__(self, options: SoakOptions, server: Penstock, known: KnownRows) -> None:
        self._options = options
        self._server = server
        self._known = known
        self._tally = Tally()
        self._stop = threading.Event()
        self._kills = 0

    def run(self) -> SoakResult:
        """Start every thread, watch memory until the time is over, stop them."""
        threads = [
            *(
                threading.Thread(target=self._client(number).run, args=[self._stop])
                for number in range(self._options.clients)
            ),
            *(threading.Thread(target=self._read_slowly, args=[number]) for number in range(SLOW_READERS)),
            threading.Thread(target=self._kill_workers),
        ]
        for thread in threads:
            thread.start()
        try:
            sizes = self._watch_memory()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        return self._result(sizes)

    def _connect(self) -> Wire:
        return Wire.connect("127.0.0.1", self._server.port)

    def _client(self, number: int) -> Client:
        maker = RequestMaker(random.Random(self._options.seed * 1000 + number), self._known, f"c{number}")
        return Client(self._connect, maker, self._tally)

    def _read_slowly(self, number: int) -> None:
        """Send pipelines and read little by little, or not at all."""
        rng = random.Random(self._options.seed * 1000 + 500 + number)
        ask = request_bytes("GET", "/openapi.json")
        while not self._stop.is_set():
            with Wire.connect("127.0.0.1", self._server.port, receive_buffer=4096) as wire:
                wire.send(ask * 16)
                for _ in range(rng.randint(0, 100)):
                    if self._stop.wait(0.05):
                        break
                    if not wire.socket.recv(512):
                        self._tally.complain("lost", "a slow reader was cut off")
                wire.abort()
            self._tally.add("slow readers")

    def _kill_workers(self) -> None:
        """Kill one worker after the other, as the control plane names them."""
        rng = random.Random(self._options.seed)
        while not self._stop.wait(self._options.kill_every_seconds):
            model = rng.choice([ONNX_MODEL, PYTHON_MODEL_NAME])
            pids = self._worker_pids(model)
            if pids:
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(rng.choice(pids), signal.SIGKILL)
                self._kills += 1

    def _worker_pids(self, model: str) -> list[int]:
        versions = self._server.get_json(f"/models/{model}")["versions"]
        workers = [worker for version in versions for worker in version["workers"]]
        return [worker["pid"] for worker in workers if worker["pid"] is not None and worker["state"] == "ready"]

    def _watch_memory(self) -> list[int]:
        sizes = []
        end = time.monotonic() + self._options.seconds
        while time.monotonic() < end:
            sizes.append(memory_of(self._server.pid).rss)
            self._stop.wait(SAMPLE_SECONDS)
        return sizes

    def _result(self, sizes: Sequence[int]) -> SoakResult:
        metrics = self._server.metrics()
        lost = metrics.total("penstock_lost_wakeups_total") + metrics.total("penstock_loop_lost_wakeups_total")
        warm = sizes[int(len(sizes) * WARM_UP_SHARE) :][: max(1, len(sizes) // 10)]
        return SoakResult(
            counts=dict(self._tally.counts),
            complaints=tuple(self._tally.complaints),
            kills=self._kills,
            restarts=int(metrics.total("penstock_worker_restarts_total")),
            lost_wakeups=int(lost),
            rss_warm=max(warm),
            rss_end=memory_of(self._server.pid).rss,
            rss_max=max(sizes),
        )
