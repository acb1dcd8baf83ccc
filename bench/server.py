"""The server under test: `penstock serve` as a child process."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.placement import spawning
from bench.targets import Batches
from penstock import __version__
from penstock.load.accounting import descendants
from penstock.load.dialects import Dialect, PenstockJson
from penstock.load.scrape import Metrics, parse_metrics

__all__ = ["LearnedCost", "Penstock", "PenstockTarget", "Settings", "penstock"]

READY_SECONDS = 300
STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class LearnedCost:
    """What a server has learned that batches take: fixed_us + row_us * rows, and its relative error at the p95."""

    fixed_us: float
    row_us: float
    error_p95: float
    samples: int


@dataclass(frozen=True, slots=True)
class Penstock:
    """A running server."""

    pid: int
    port: int
    log: Path
    dialect: Dialect = field(default_factory=PenstockJson)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self.port}"

    def batches(self, model: str) -> Batches | None:
        """Count the rows and batches of a model."""
        metrics = self.metrics()
        rows, batches = (metrics.total(f"penstock_batch_size_{part}", model=model) for part in ("sum", "count"))
        return Batches(rows, batches)

    def batch_sizes(self) -> dict[str, float]:
        """Count the batches of all models by the upper bound of their size."""
        found: dict[str, float] = {}
        below = 0.0
        for bound, total in self.metrics().by_label("penstock_batch_size_bucket", "le").items():
            found[bound] = total - below
            below = total
        return found

    def learned(self, model: str) -> LearnedCost | None:
        """Read what batches of a model cost, as learned so far; None when the server does not tell."""
        cost = self.get_json(f"/models/{model}")["versions"][0].get("cost")
        if cost is None:
            return None
        fixed_us, row_us = cost["fixed_seconds"] * 1e6, cost["per_row_seconds"] * 1e6
        return LearnedCost(fixed_us, row_us, cost["error_p95"], cost["samples"])

    def worker_pids(self) -> list[int]:
        """Return the processes below the main one."""
        return [pid for pid in descendants(self.pid) if pid != self.pid]

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 60.0,
    ) -> tuple[int, bytes]:
        """Send one request over a connection of its own; (status, body)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_seconds)
        try:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get_json(self, path: str) -> Any:
        """GET a JSON document; RuntimeError when the answer is not 200."""
        status, body = self.request("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path} answered {status}: {body[:200]!r}")
        return json.loads(body)

    def metrics(self) -> Metrics:
        """Read /metrics."""
        return parse_metrics(self.request("GET", "/metrics")[1].decode())


@dataclass(frozen=True, slots=True)
class Settings:
    """What a configuration file says beside where the models are."""

    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    server: Mapping[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.server) or any(self.models.values())

    def write(self, models: Mapping[str, Path], folder: Path) -> Path:
        """Write the file for these models into `folder`; its path."""
        tables: dict[str, Mapping[str, Any]] = {"server": self.server}
        for name, where in models.items():
            tables[f'models."{name}"'] = {"path": str(where.absolute()), **self.models.get(name, {})}
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "penstock.toml"
        # Strings, numbers, booleans and lists of them are written as in JSON.
        lines = [
            line
            for table, values in tables.items()
            for line in (f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()))
        ]
        path.write_text("\n".join(lines) + "\n")
        return path


@dataclass(frozen=True, slots=True)
class PenstockTarget:
    """Penstock as a target: of this working tree, or of another one below `source`, with more flags if given."""

    name: str = "penstock"
    dialect: Dialect = field(default_factory=PenstockJson)
    arguments: tuple[str, ...] = ()
    source: Path | None = None
    settings: Settings = field(default_factory=lambda: Settings())

    def install(self, environments: Path) -> Mapping[str, str]:
        """Nothing is to be installed: it is built where its sources are."""
        return {"penstock": __version__}

    @contextmanager
    def serve(self, models: Mapping[str, Path], folder: Path) -> Iterator[Penstock]:
        """Serve until the block ends."""
        named, arguments = models, self.arguments
        if self.settings:
            named, arguments = {}, ("--config", str(self.settings.write(models, folder)), *arguments)
        with penstock(folder, named, arguments, self.source) as running:
            yield replace(running, dialect=self.dialect)


@contextmanager
def penstock(
    folder: Path, models: Mapping[str, Path], arguments: Sequence[str] = (), source: Path | None = None
) -> Iterator[Penstock]:
    """Run a server on a free port until the block ends; RuntimeError with its log if it does not get ready.

    `source` is the folder of another revision's package, already built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    ready, announce = os.pipe()
    named = [f"{name}={path}" for name, path in models.items()]
    command = [sys.executable, "-m", "penstock", "serve", *named, *arguments, "--port", "0"]
    environment = {**os.environ, "PENSTOCK_READY_FD": str(announce)}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    with log.open("wb") as output, spawning():
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=[announce], env=environment
        )
    os.close(announce)
    try:
        event = _read_event(ready)
        if event.get("event") != "ready":
            raise RuntimeError(f"the server did not get ready:\n{log.read_text(errors='replace')[-4000:]}")
        yield Penstock(process.pid, event["port"], log)
    finally:
        os.close(ready)
        _stop(process)


def _read_event(descriptor: int) -> dict[str, Any]:
    """Read the line that the server writes when it is ready; empty when it ended first."""
    received = b""
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], READY_SECONDS)
        piece = os.read(descriptor, 4096) if readable else b""
        if not piece:
            return {}
        received += piece
    event: dict[str, Any] = json.loads(received)
    return event


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
