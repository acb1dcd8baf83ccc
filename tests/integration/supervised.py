"""The real engine with a supervisor and clients, and a Python model that does what its rows tell it."""

import json
import os
import select
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from penstock.core.config import ModelConfig
from penstock.core.status import ModelStatus
from penstock.native._dataplane import Engine
from penstock.serve import RestartPolicy, Supervisor

__all__ = [
    "DEADLINE_SECONDS",
    "DIE",
    "EXIT",
    "FAST",
    "RAISE",
    "SCRIBBLE",
    "SCRIBBLE_ONE",
    "SHORTEN",
    "WAIT",
    "WAIT_ALONE",
    "Running",
    "Scripted",
    "doubled",
    "one_batch",
    "send_one_batch",
    "until",
]

DEADLINE_SECONDS = 300.0
FAST = RestartPolicy(delay_min_s=0.02, delay_max_s=0.1)

# The first number of a row says what predict() does with it. WAIT_ALONE waits in a batch of one row only.
RAISE, DIE, WAIT, SHORTEN, EXIT, SCRIBBLE, WAIT_ALONE = -1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0
# As SCRIBBLE, but over one of the rings only.
SCRIBBLE_ONE = (-8.0, -9.0)

SOURCE = """
    import ctypes, os, signal
    from pathlib import Path
    from penstock.worker import Tensor

    FOLDER = Path(__file__).parent

    def scribble(which):  # writes ones all over these rings
        rings = [line for line in Path("/proc/self/maps").read_text().splitlines() if "penstock-ring" in line]
        for line in rings[which]:
            first, end = (int(bound, 16) for bound in line.split()[0].split("-"))
            ctypes.memset(first, 0xFF, end - first)

    class Model:
        inputs = {"x": Tensor("float32", (2,))}
        outputs = {"y": Tensor("float32", (2,))}

        def load(self):
            self.entered = os.open(FOLDER / "entered", os.O_RDWR)
            self.go = os.open(FOLDER / "go", os.O_RDWR)
            if (FOLDER / "hang").exists():
                signal.pause()

        def predict(self, batch):
            x = batch["x"]
            if x.any():  # not a warm-up
                with open(FOLDER / "runs", "a") as runs:
                    runs.write(f"{len(x)}\\n")
            first = x[:, 0]
            if (first == -3).any() or ((first == -7).any() and len(x) == 1):
                os.write(self.entered, b"!")
                os.read(self.go, 1)
            if (first == -2).any():
                os.kill(os.getpid(), signal.SIGKILL)
            for sign, which in ((-6, slice(None)), (-8, slice(0, 1)), (-9, slice(1, 2))):
                if (first == sign).any():
                    scribble(which)
                    os.kill(os.getpid(), signal.SIGKILL)
            if (first == -5).any():
                raise SystemExit("bye")
            if (first == -1).any():
                raise ValueError("minus one, see /srv/secret.txt")
            if (first == -4).any():
                return x[:-1]
            return x * 2
"""


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll: states of other processes have no event of their own."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        select.select([], [], [], 0.005)


class Scripted:
    """The Python model above in a folder of its own, and the strings that move it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "model.py"
        self.path.write_text(textwrap.dedent(SOURCE))
        self._runs = folder / "runs"
        self._runs.touch()
        for name in ("entered", "go"):
            os.mkfifo(folder / name)
        self._entered = os.open(folder / "entered", os.O_RDWR)
        self._go = os.open(folder / "go", os.O_RDWR)

    def close(self) -> None:
        os.close(self._entered)
        os.close(self._go)

    def wait_until_inside(self) -> None:
        readable, _, _ = select.select([self._entered], [], [], DEADLINE_SECONDS)
        assert readable, "predict() was not called with a row that waits"
        os.read(self._entered, 1)

    def let_go(self) -> None:
        os.write(self._go, b"!")

    def runs(self) -> list[int]:
        return [int(line) for line in self._runs.read_text().split()]

    def forget_runs(self) -> None:
        self._runs.write_text("")


class Running:
    """An engine with a supervisor, and clients."""

    def __init__(self, configs: list[ModelConfig], policy: RestartPolicy, *, hold: bool = False) -> None:
        self.engine = Engine()
        self.port = self.engine.listen_tcp("127.0.0.1", 0)
        self.engine.start()
        self.supervisor = Supervisor(self.engine, configs, policy, hold=hold)
        self.supervisor.start()
        self._clients = ThreadPoolExecutor(64)

    def stop(self) -> None:
        self.supervisor.stop(grace_s=5.0)
        self.engine.stop()
        self._clients.shutdown()

    def status(self) -> ModelStatus:
        (status,) = self.supervisor.models()
        return status

    def pid(self) -> int:
        pid = self.status().workers[0].pid
        assert pid is not None
        return pid

    def get(self, path: str) -> int:
        return self._exchange("GET", path, None)[0]

    def predict(self, row: Any, model: str = "m") -> tuple[int, dict[str, Any]]:
        return self.ask(row, model)

    def ask(self, row: Any, model: str, query: str = "") -> tuple[int, dict[str, Any]]:
        status, body = self._exchange("POST", "/predict" + query, json.dumps({"model": model, "inputs": row}))
        return status, json.loads(body)

    def predict_later(self, row: Any, model: str = "m") -> "Future[tuple[int, dict[str, Any]]]":
        return self._clients.submit(self.predict, row, model)

    def queued(self, model: str = "m") -> int:
        """Rows that wait for a worker of the model."""
        rings = self.engine.stats()["rings"]
        return sum(int(ring["rows_queued"]) for ring in rings if ring["model"] == model)

    def _exchange(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def doubled(row: list[float]) -> dict[str, Any]:
    return {"model": "m", "version": "1", "outputs": {"y": [2 * value for value in row]}}


def send_one_batch(
    running: Running, scripted: Scripted, rows: list[list[float]]
) -> "list[Future[tuple[int, dict[str, Any]]]]":
    """Send rows that are taken together, in this order: another row holds the worker until all of them wait."""
    blocker = running.predict_later([WAIT, 0])
    scripted.wait_until_inside()
    answers = []
    for row in rows:
        answers.append(running.predict_later(row))
        until(lambda: running.queued() == len(answers), "the row waits in the ring")
    scripted.forget_runs()
    scripted.let_go()
    assert blocker.result() == (200, doubled([WAIT, 0]))
    return answers


def one_batch(running: Running, scripted: Scripted, rows: list[list[float]]) -> list[tuple[int, dict[str, Any]]]:
    """Answers of rows that are taken together."""
    return [answer.result() for answer in send_one_batch(running, scripted, rows)]
