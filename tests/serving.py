"""The real `penstock serve` as a child process: started on port 0, ready when it says so, stopped by SIGTERM."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

__all__ = ["READY_SECONDS", "STOP_SECONDS", "Reply", "Server"]

READY_SECONDS = 300.0
STOP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `log` is the file that holds its standard output and error."""

    host: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @classmethod
    def start(
        cls,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        cwd: Path | None = None,
    ) -> "Server":
        """Start `penstock serve ARGUMENTS --port 0`; AssertionError with its log if it is not ready in time."""
        log = folder / "server.log"
        ready, announce = os.pipe()
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "penstock", "serve", *arguments, "--port", "0"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[announce],
                cwd=cwd,
                env={
                    **os.environ,
                    "PENSTOCK_DATA_DIR": str(folder / "data"),
                    **(environment or {}),
                    "PENSTOCK_READY_FD": str(announce),
                },
            )
        os.close(announce)
        try:
            event = json.loads(read_line(ready, READY_SECONDS) or "{}")
        finally:
            os.close(ready)
        if event.get("event") != "ready":
            process.kill()
            process.wait()
            raise AssertionError(f"the server was not ready:\n{tail(log)}")
        return cls(host=event["address"], port=event["port"], process=process, log=log)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float = 300,
    ) -> Reply:
        """Send one request over a connection of its own; TimeoutError when it is silent for so many seconds."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Reply(status=response.status, headers=fields, body=response.read())
        finally:
            connection.close()

    def predict(self, **members: Any) -> Reply:
        """POST the members as a JSON object to /predict."""
        return self.request("POST", "/predict", json.dumps(members), {"Content-Type": "application/json"})

    def stop(self) -> None:
        """SIGTERM; AssertionError unless it exits with 0 and leaves no process behind."""
        if self.process.poll() is not None:
            raise AssertionError(f"the server had ended with {self.process.returncode}:\n{tail(self.log)}")
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"SIGTERM did not end the server within {STOP_SECONDS} s:\n{tail(self.log)}") from None
        assert status == 0, f"the server exited with {status}:\n{tail(self.log)}"
        _, alive = psutil.wait_procs(children, timeout=STOP_SECONDS)
        left = [child for child in alive if child.status() != psutil.STATUS_ZOMBIE]
        assert not left, f"the server left processes behind: {left}\n{tail(self.log)}"


def read_line(descriptor: int, seconds: float) -> str:
    """Read one line from a pipe; what came so far when the pipe closes or the time is over."""
    deadline = time.monotonic() + seconds
    received = b""
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(descriptor, 4096) if readable else b""
        if not piece:
            break
        received += piece
    return received.decode() if received.endswith(b"\n") else ""


def tail(log: Path, lines: int = 60) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
