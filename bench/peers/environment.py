"""A rival's surroundings: a virtual environment of its own, its processes from start to end, and its batch counts.

A rival's environment holds what its requirements.txt pins and nothing of ours. What runs in it is the rival, our few
lines that hand it a model, and `bench/peers/inside`, which must be on its PYTHONPATH (`Process` puts it there).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.placement import spawning
from bench.targets import Batches, NotInstalledError
from penstock.load.accounting import descendants

__all__ = ["INSIDE", "Process", "answers", "free_port", "install", "read_batches", "versions"]

INSIDE = Path(__file__).parent / "inside"

# Switched off in every child: what was activated for us, and what would change how much a rival computes with.
FOREIGN_VARIABLES = ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "OMP_NUM_THREADS")
READY_SECONDS = 120.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
LOG_END_CHARACTERS = 4000


def install(name: str, environments: Path, requirements: Path, options: Sequence[str] = ()) -> Path:
    """Make the virtual environment `environments`/`name` and install `requirements` into it; its interpreter.

    Does nothing when that was done before with the same requirements and options (of pip). NotInstalledError with the
    end of what pip said when it cannot be done; the environment is then removed.
    """
    folder = environments.resolve() / name
    python = folder / "bin" / "python"
    stamp = folder / "installed"
    recipe = hashlib.sha256(requirements.read_bytes() + repr((sys.version, tuple(options))).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == recipe:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(python), "-m", "pip", "install", "-q", "-r", str(requirements), *options])
    except subprocess.CalledProcessError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotInstalledError(f"{name}: {_last_words(error.stdout)}") from error
    stamp.write_text(recipe)
    return python


def versions(python: Path, packages: Iterable[str]) -> dict[str, str]:
    """Return the installed versions of `packages` in that interpreter's environment; KeyError for an absent one."""
    listed = json.loads(_run([str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]))
    found = {entry["name"].lower(): entry["version"] for entry in listed}
    return {package: found[package.lower()] for package in packages}


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, path: str) -> bool:
    """Tell whether GET `path` is answered with 200 on that port of 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def read_batches(counts: Path) -> Batches:
    """Read what a `Predictor` (bench/peers/inside/predictor.py) has counted into this file: two int64."""
    rows, batches = struct.unpack("=qq", counts.read_bytes())
    return Batches(rows, batches)


class Process:
    """A command with a process group and a log of its own, from entering the block until it ends.

    When the block ends, the command gets SIGTERM and some seconds; then whatever is left of its process group and of
    the tree below it is killed, and the block is left when all of it has ended.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None, name: str = "server"
    ) -> None:
        self._command = list(command)
        self._folder = folder
        self._variables = dict(variables or {})
        self._log = folder / f"{name}.log"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        variables = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        variables |= {"PYTHONPATH": str(INSIDE), **self._variables}
        with self._log.open("wb") as log, spawning():
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Handles, not numbers: a number may belong to another process by the time it is used.
        handles = [handle for pid in descendants(self.pid) if (handle := _open(pid)) is not None]
        try:
            if self._process.poll() is None:
                self._process.terminate()
            self._wait(STOP_SECONDS)
            _kill_group(self.pid)
            for handle in handles:
                _end(handle)
            self._process.wait()
        finally:
            for handle in handles:
                os.close(handle)

    @property
    def pid(self) -> int:
        """The root of the process tree."""
        return self._process.pid

    def log(self) -> str:
        """Return the end of what the command has written."""
        return self._log.read_text(errors="replace")[-LOG_END_CHARACTERS:]

    def wait_for(self, ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Return when `ready` does; RuntimeError with the end of the log if the command ends or that takes too long."""
        deadline = time.monotonic() + seconds
        while not ready():
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._command[0]} ended with {self._process.returncode}:\n{self.log()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self._command[0]} was not ready after {seconds:.0f} s:\n{self.log()}")
            time.sleep(POLL_SECONDS)

    def _wait(self, seconds: float) -> None:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _run(command: Sequence[str]) -> str:
    variables = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, done.args, done.stdout)
    return done.stdout


def _last_words(output: str) -> str:
    """Return pip's errors, or its last lines where it names none."""
    lines = output.strip().splitlines()
    return " ".join([line for line in lines if line.startswith("ERROR")] or lines[-3:])


def _open(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def _end(handle: int) -> None:
    """Kill a process if it still runs, and wait until it does not."""
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        return
    select.select([handle], [], [], STOP_SECONDS)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return
