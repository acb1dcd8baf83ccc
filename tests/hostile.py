"""Hostile models beside an honest one: a server under load has each of them loaded, and must not take notice."""

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from penstock.core.config import ModelConfig
from penstock.core.errors import ModelLoadError
from penstock.core.status import ModelState, ModelStatus
from tests import models
from tests.integration.supervised import DEADLINE_SECONDS, FAST, Running, until

__all__ = ["Hostile", "check_refusals"]

# What the server may keep of all hostile models together; the files of one declare gigabytes.
GROWTH_BYTES_MAX = 48 << 20
# 1.5 GiB holds any framework, and none of the bombs.
MEMORY_BYTES = 3 << 29
REQUESTS_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class Hostile:
    """A model that must be refused for a reason that this regular expression finds."""

    name: str
    path: Path
    reason: str
    load_timeout_s: float = 300.0


class Beside:
    """A server with an honest model that answers a request every 10 ms, all the time."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._stop = threading.Event()
        self._wrong: list[str] = []
        self.answered = 0
        self._load = threading.Thread(target=self._ask)
        self._load.start()

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._running.port, timeout=DEADLINE_SECONDS)
        while not self._stop.wait(1 / REQUESTS_PER_SECOND):
            row = [float((self.answered + place) % 100) for place in range(4)]
            body = json.dumps({"model": "honest", "inputs": row})
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            reply: dict[str, Any] = json.loads(response.read())
            if response.status != 200 or reply["outputs"] != {"y": [2 * value + 1 for value in row]}:
                self._wrong.append(f"{response.status} {reply}")
            self.answered += 1
        connection.close()

    def end(self) -> None:
        """Stop asking; AssertionError when one answer was wrong."""
        self._stop.set()
        self._load.join()
        assert not self._wrong, f"{len(self._wrong)} of {self.answered} answers: {self._wrong[:3]}"

    def refusal_of(self, hostile: Hostile) -> str:
        """Have it loaded; the sentence that says why it was not."""
        config = ModelConfig(
            name=hostile.name,
            path=hostile.path,
            memory_bytes=MEMORY_BYTES,
            load_timeout_s=hostile.load_timeout_s,
            warmup_s=0,
        )
        done: Future[ModelStatus] = self._running.supervisor.add(config)
        try:
            done.result(DEADLINE_SECONDS + hostile.load_timeout_s)
        except ModelLoadError as error:
            return str(error)
        self._running.supervisor.remove(config.name, config.version).result(DEADLINE_SECONDS)
        return "it was loaded"

    def left_over(self) -> list[str]:
        """Name what a hostile model has left in the server: a model, a ring, a process."""
        names = {status.config.name for status in self._running.supervisor.models()} - {"honest"}
        rings = [ring["model"] for ring in self._running.engine.stats()["rings"] if ring["model"] != "honest"]
        honest = {worker.pid for status in self._running.supervisor.models() for worker in status.workers}
        workers = [
            f"process {child.pid}"
            for child in psutil.Process().children()
            if child.pid not in honest and "penstock.worker" in child.cmdline()
        ]
        return [*names, *rings, *workers]


@contextmanager
def beside_an_honest_model(folder: Path) -> Iterator[Beside]:
    """Serve an ONNX model under load until the end; AssertionError when one of its answers was wrong."""
    folder.mkdir()
    running = Running([ModelConfig(name="honest", path=models.affine(folder))], FAST)
    try:
        running.supervisor.wait_ready(DEADLINE_SECONDS)
        beside = Beside(running)
        try:
            yield beside
        finally:
            beside.end()
        (status,) = [status for status in running.supervisor.models() if status.config.name == "honest"]
        assert status.state is ModelState.READY
        assert [worker.restarts for worker in status.workers] == [0]
    finally:
        running.stop()


def check_refusals(hostile: Sequence[Hostile], folder: Path) -> None:
    """Have each loaded beside an honest model under load; AssertionError unless each is refused and leaves no trace.

    `folder` is where their files lie: nothing may change there, beside it, or in the working folder of the workers.
    """
    before = _files_around(folder)
    refusals: dict[str, str] = {}
    with beside_an_honest_model(folder.parent / "honest") as beside:
        beside.refusal_of(hostile[0])  # what is allocated once, is
        resident, answered = _resident_bytes(), beside.answered
        for model in hostile:
            refusals[model.name] = beside.refusal_of(model)
        until(lambda: not beside.left_over(), "nothing is left of the models that were refused")
        until(lambda: beside.answered > answered, "the honest model has answered meanwhile")
        grown = _resident_bytes() - resident
    unclear = {
        model.name: refusals[model.name]
        for model in hostile
        if not re.search(model.reason, refusals[model.name]) or "Traceback" in refusals[model.name]
    }
    assert not unclear, unclear
    assert grown < GROWTH_BYTES_MAX, f"the server has grown by {grown >> 20} MiB"
    changed = _files_around(folder) ^ before
    assert not changed, changed


def _files_around(folder: Path) -> set[tuple[str, int]]:
    """Return the files that models could have changed, and when they were changed."""
    places = [*folder.rglob("*"), *folder.parent.glob("*"), *Path.cwd().glob("*")]
    return {(str(path), path.stat().st_mtime_ns) for path in places if path.is_file()}


def _resident_bytes() -> int:
    """Return the memory of this process, which is the server's."""
    return int(psutil.Process(os.getpid()).memory_info().rss)
