"""A real `penstock serve` for the time of a test: private folder, private socket, a free port."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import penstock_client
from penstock.core.config import ServerConfig
from penstock.core.errors import ConfigError, PenstockError, StartError
from penstock.core.gathering import SERVER_SETTINGS, SHARED_SETTINGS, unknown
from penstock.core.sources import load_config

__all__ = ["ServeOptions", "Served", "ServedEndError", "Setting", "paths_of", "serve"]

Setting: TypeAlias = str | int | float | bool | Path | list[int] | list[str]

_KNOWN = SERVER_SETTINGS | SHARED_SETTINGS
START_S = 600.0
STOP_S = 60.0
_TAIL_LINES = 40
# A socket's path is bounded to about 100 bytes; TMPDIR may be longer.
_FOLDER_BYTES_MAX = 70


class ServedEndError(PenstockError):
    """A server that was served for a test did not end as it should."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What is served, and how. `settings` are those of docs/configuration.md, and win over the file `config`."""

    models: tuple[str, ...] = ()
    config: Path | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)
    start_s: float = START_S


class Served:
    """A server that runs for a test.

    Attributes:
        url: Where it answers.
        models: The names of the models it serves, those of the arguments first.
        process: The server's main process.
        log: The file with everything that it has written.
    """

    def __init__(
        self, url: str, models: tuple[str, ...], process: subprocess.Popen[bytes], folder: Path, life: int
    ) -> None:
        self.url = url
        self.socket_url = f"unix:{folder / 's'}"
        self.models = models
        self.process = process
        self.log = folder / "server.log"
        self._folder = folder
        self._finalizer = weakref.finalize(self, _end, process, folder, life)

    @property
    def model(self) -> str:
        """The model; of several the first."""
        return self.models[0]

    @cached_property
    def client(self) -> penstock_client.Client:
        """A client of this server, over its Unix socket."""
        return penstock_client.Client(self.socket_url)

    @property
    def logs(self) -> str:
        """Everything that the server has written so far."""
        return self.log.read_text(errors="replace")

    def stop(self) -> None:
        """Stop it; ServedEndError when it had ended by itself, or does not stop as it should."""
        if not self._finalizer.alive:
            return
        if "client" in self.__dict__:
            self.client.close()
        try:
            had_ended = self.process.poll() is not None
            if not had_ended:
                self.process.send_signal(signal.SIGTERM)
            try:
                status = self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                raise ServedEndError(f"the server did not stop within {STOP_S:g} s:\n{self._tail()}") from None
            if had_ended or status != 0:
                raise ServedEndError(f"the server ended with status {status}:\n{self._tail()}")
        finally:
            self._finalizer()

    def end(self) -> None:
        """End it, however it ends."""
        self._finalizer()

    def _tail(self) -> str:
        return _tail(self.log)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"Served({self.url!r}, {', '.join(self.models)})"


def serve(options: ServeOptions) -> Served:
    """Start a server and wait until its models answer.

    Everything is as `penstock serve` has it with the same file and settings, but for where it listens and keeps its
    registry: these are its own. ConfigError for a wrong setting, StartError with what the server said when it does not
    start.
    """
    for name in options.settings:
        if name not in _KNOWN:
            raise ConfigError(unknown(name, name, _KNOWN, "setting"))
    said = {f"PENSTOCK_{name.upper()}": _text(value) for name, value in options.settings.items()}
    environment = {**os.environ, **said}
    config = load_config(file=options.config, environment=environment, models=options.models)
    if not config.models:
        raise ConfigError("there is no model to serve")
    folder = _folder()
    arguments = [*options.models, *_private(folder, config)]
    if options.config is not None:
        arguments += ["--config", str(options.config)]
    names = dict.fromkeys(
        [*(model.name for model in config.models[len(config.models) - len(options.models) :]),
         *(model.name for model in config.models)]
    )  # fmt: skip
    try:
        # What the settings above say in flags has been taken; that of a key would shut its own client out.
        served = _start(
            arguments, {**environment, "PENSTOCK_REQUIRE_KEY": "false"}, folder, tuple(names), options.start_s
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if config.tls_cert is not None:
        served.url = served.url.replace("http:", "https:", 1)
    return served


def paths_of(options: ServeOptions) -> dict[str, Path]:
    """Return where the models lie that would be served, by their names; ConfigError as serve() raises it."""
    config = load_config(file=options.config, environment=os.environ, models=options.models)
    return {model.name: model.path for model in config.models}


def _private(folder: Path, config: ServerConfig) -> list[str]:
    data = folder / "data"
    flags = {
        "--host": "127.0.0.1",
        "--port": "0",
        "--unix-socket": str(folder / "s"),
        "--data-dir": str(data),
        "--store": f"sqlite:///{data / 'penstock.db'}",
        "--artefacts": str(data / "artefacts"),
    }
    if config.grpc_port is not None:
        flags["--grpc-port"] = "0"
    data.mkdir()
    return [word for flag in flags.items() for word in flag]


def _start(
    arguments: list[str], environment: Mapping[str, str], folder: Path, names: tuple[str, ...], start_s: float
) -> Served:
    ready, announce = os.pipe()
    theirs, life = os.pipe()
    log = folder / "server.log"
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "penstock.cli.child", str(theirs), str(folder), "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[announce, theirs],
                env={**environment, "PENSTOCK_READY_FD": str(announce)},
                start_new_session=True,  # Ctrl-C is for whoever started it, who then stops it
            )
    except BaseException:
        os.close(life)
        os.close(ready)
        raise
    finally:
        os.close(announce)
        os.close(theirs)
    try:
        line = _line(ready, start_s)
        if line is None:
            raise StartError(f"the server was not ready within {start_s:g} s:\n{_tail(log)}")
        if not line:
            _refuse(process, log)
    except BaseException:
        _end(process, None, life)
        raise
    finally:
        os.close(ready)
    event = json.loads(line)
    return Served(f"http://{event['address']}:{event['port']}", names, process, folder, life)


def _refuse(process: subprocess.Popen[bytes], log: Path) -> None:
    """Raise what a server said that closed the pipe without being ready: it is on its way out."""
    status = process.wait(STOP_S)
    # The sentence of the command line, and not the records of the log before it.
    before, mark, sentence = log.read_text(errors="replace").rpartition("penstock: ")
    message = (sentence if mark else before).strip() or f"it ended with status {status} and said nothing"
    raise (ConfigError if status == ConfigError.exit_code else StartError)(message)


def _line(descriptor: int, seconds: float) -> str | None:
    """Read one line from a pipe; what came until it closed, None when the time was over."""
    deadline = time.monotonic() + seconds
    received = b""
    while not received.endswith(b"\n"):
        readable, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return None
        piece = os.read(descriptor, 4096)
        if not piece:
            break
        received += piece
    return received.decode()


def _end(process: subprocess.Popen[bytes], folder: Path | None, life: int) -> None:
    """End the server if it still runs, also when this interpreter ends; forget its folder."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    os.close(life)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    usual = tempfile.gettempdir()
    return Path(
        tempfile.mkdtemp(prefix="penstock-test-", dir=usual if len(os.fsencode(usual)) < _FOLDER_BYTES_MAX else "/tmp")
    )


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:])


def _text(value: Setting) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
