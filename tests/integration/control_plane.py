"""A control plane over its real Unix socket, and counters as the engine gives them."""

import http.client
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.control.app import make_app
from penstock.control.hub import HubEvent
from penstock.control.server import ControlServer
from penstock.control.state import ServerState
from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, ModelStatus, WorkerState, WorkerStatus

__all__ = ["BROKEN", "DIGITS", "RING", "SECONDS", "STATS", "Control", "Recorded", "assert_problem", "control_plane"]

SECONDS = 120.0

HISTOGRAM = {"bounds": [0.001, 0.01, 0.1], "counts": [5, 3, 0, 2], "sum": 1.5}
TAP = {
    "access_log_lines": 12,
    "access_log_dropped": 3,
    "traces_exported": 6,
    "traces_dropped": 4,
    "trace_exporter_restarts": 1,
}

RING: dict[str, Any] = {
    "ring": 7,
    "model": "digits",
    "version": "1",
    "rows_claimed": 100,
    "claims_refused": 4,
    "bell_rings": 9,
    "batches_done": 12,
    "partial_takes_held": 3,
    "lost_wakeups": 0,
    "rows_queued": 5,
    "rows_ok": 90,
    "rows_failed": 2,
    "deadline_exceeded": 1,
    "rows_shed": 6,
    "rows_refused_deadline": 7,
    "rows_cancelled": 2,
    "padded_rows": 8,
    "cache_hits": 31,
    "cache_hit_ns": 3100,
    "cache_misses": 32,
    "cache_miss_ns": 6400,
    "cache_coalesced": 33,
    "cache_evictions": 34,
    "cache_rows": 35,
    "cache_bytes": 36,
    "batches_by_reason": {"full": 9, "idle": 3},
    "rows_by_class": {"interactive": 10, "normal": 90},
    "batches_by_size": [(1, 3, 4_000_000, 3_000_000), (4, 9, 30_000_000, 27_000_000)],
    "histograms": {
        "queue_seconds": HISTOGRAM,
        "run_seconds": HISTOGRAM,
        "total_seconds": HISTOGRAM,
        "batch_seconds": HISTOGRAM,
        "prediction_error": {"bounds": [0.05, 0.1], "counts": [8, 3, 1], "sum": 0.6},
        "batch_size": {"bounds": [1, 2, 4], "counts": [3, 4, 5, 0], "sum": 31},
    },
}
COST: dict[str, Any] = {
    "rows": [1, 64],
    "mean_seconds": [0.001, 0.004],
    "p99_seconds": [0.002, 0.005],
    "fixed_seconds": 0.00095,
    "per_row_seconds": 0.00005,
    "samples": 42,
    "error_p95": 0.08,
    "off_share": 0.004,
    "alarm": False,
}
STATS: dict[str, Any] = {
    "ready": True,
    "draining": False,
    "connections": {"open": 3, "accepted": 20, "refused": 1, "timed_out": 2},
    "responses": {"200": 90, "422": 2},
    "body_pool": {"bytes_used": 4096, "bytes_max": 1 << 27, "waits": 6, "refused": 0},
    "loop": {"passes": 50, "wakeups": 30, "longest_pass_us": 2500, "lost_wakeups": 0},
    "control": {"forwarded": 8, "failed": 0, "active": 1},
    "tap": {"written": 14, "dropped": 2, "suppressed": 5},
    "second_level": {
        "hits": 41,
        "misses": 42,
        "timeouts": 43,
        "failures": 44,
        "invalid": 45,
        "skipped": 46,
        "writes": 47,
        "writes_lost": 48,
        "up": True,
    },
    "refusal_seconds": HISTOGRAM,
    "rings": [RING],
}
DIGITS = ModelStatus(
    config=ModelConfig(
        name="digits",
        path=Path("digits.onnx"),
        max_batch_size=128,
        batch_sizes=(16, 32, 128),
        slo_ms=20,
        weight=300,
        group="readers",
    ),
    state=ModelState.READY,
    latest=True,
    workers=(
        WorkerStatus(worker=0, pid=os.getpid(), state=WorkerState.READY, restarts=2),
        WorkerStatus(worker=1, pid=None, state=WorkerState.BACKING_OFF, restarts=1),
        WorkerStatus(worker=63, pid=4712, state=WorkerState.QUARANTINE, restarts=0),
    ),
    inputs=(("pixels", "float32", (64,)),),
    outputs=(("label", "int64", ()), ("probabilities", "float32", (10,))),
    backend="onnx",
    ring=7,
    max_batch_size=64,
    rerun_on_worker_death=True,
)
BROKEN = ModelStatus(
    config=ModelConfig(name="broken", path=Path("broken.onnx"), version="2024-01"),
    state=ModelState.FAILED,
    latest=True,
    detail="not an ONNX file",
)


@dataclass
class Recorded:
    """Counters and models as they were at one moment."""

    counters: Any = field(default_factory=lambda: STATS)
    statuses: Sequence[ModelStatus] = (DIGITS, BROKEN)

    def stats(self) -> Mapping[str, Any]:
        if isinstance(self.counters, Exception):
            raise self.counters
        return self.counters

    def cost(self, ring: int, bucket: int = 0) -> Mapping[str, Any]:
        assert ring in (7, 8)
        return COST

    def models(self) -> Sequence[ModelStatus]:
        return self.statuses


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Control:
    path: Path
    source: Recorded

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = UnixConnection(self.path)
        try:
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Any:
        response, body = self.request("GET", target, headers)
        assert response.status == 200, body
        assert response.headers["Content-Type"] == "application/json"
        return json.loads(body)


@contextmanager
def control_plane(**more: Any) -> Iterator[Control]:
    """Run a control plane until the block ends, and see it gone; `more` is what its state holds beside counters."""
    source = Recorded()
    state = ServerState(stats=source, models=source, log_records_dropped=lambda: 11, tap_counts=lambda: TAP, **more)
    folder = tempfile.TemporaryDirectory(prefix="penstock-")  # a socket's path is short, pytest's may be long
    path = Path(folder.name) / "control.sock"
    started = threading.Event()
    stop: list[HubEvent] = []

    def run() -> None:
        server = ControlServer(make_app(state), path)
        server.start()
        stop.append(HubEvent())
        started.set()
        stop[0].wait()
        server.stop()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(SECONDS)
    yield Control(path, source)
    stop[0].set()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert not path.exists()
    folder.cleanup()


def assert_problem(response: http.client.HTTPResponse, body: bytes, status: int, code: str) -> dict[str, Any]:
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(body)
    assert list(problem) == ["type", "title", "status", "detail", "code", "request_id"]
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"/problems/{code}"
    assert response.headers["X-Request-Id"] == problem["request_id"]
    return problem
