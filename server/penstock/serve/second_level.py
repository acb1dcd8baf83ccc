"""The process of the second level of the result cache, as the server holds it: started, and again when it dies."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from penstock.core.config import ServerConfig
from penstock.core.errors import ConfigError

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["start_second_level"]

_log = logging.getLogger("penstock.serve.cache")

_URL_VARIABLE = "PENSTOCK_CACHE_REDIS"
_LOOK_S = 0.2
_BACKOFF_SECONDS = (0.5, 30.0)
# It was fine for so long: the next death is a new matter.
_STEADY_SECONDS = 60.0
_STOP_SECONDS = 5.0


def start_second_level(config: ServerConfig, engine: Engine, cleanup: ExitStack) -> None:
    """Start what the settings ask for. ConfigError for what cannot be."""
    if config.cache_redis is None:
        return
    try:  # the library itself stays out of this process
        importlib.metadata.version("redis")
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError("cache_redis needs redis-py: pip install 'penstock[redis]', or leave it out") from error
    process = SecondLevelProcess(config.cache_redis, config.cache_redis_timeout_ms, engine)
    process.start()
    cleanup.callback(process.stop)


class SecondLevelProcess:
    """Kept alive by a thread of its own until stop()."""

    def __init__(self, url: str, lookup_ms: int, engine: Engine) -> None:
        """Nothing is started yet."""
        # By the environment: command lines can be read by every user.
        self._environment = {**os.environ, _URL_VARIABLE: url}
        self._lookup_ms = lookup_ms
        self._engine = engine
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-redis", daemon=True)

    def start(self) -> None:
        """Have it run from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        backoff_s = _BACKOFF_SECONDS[0]
        while not self._stopping.is_set():
            begun = time.monotonic()
            status = self._live()
            if self._stopping.is_set():
                return
            if time.monotonic() - begun > _STEADY_SECONDS:
                backoff_s = _BACKOFF_SECONDS[0]
            _log.warning("the process for Redis has ended; it is started again", extra={"status": status})
            self._stopping.wait(backoff_s)
            backoff_s = min(backoff_s * 2, _BACKOFF_SECONDS[1])

    def _live(self) -> int | str | None:
        """Start it and stay until it has ended; how it did."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no descriptors are left: there may be some later
            return str(error)
        command = [sys.executable, "-P", "-m", "penstock.cache", "--lookup-ms", str(self._lookup_ms)]
        with theirs:
            try:
                process = subprocess.Popen(
                    [*command, "--socket-fd", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    pass_fds=(theirs.fileno(),),
                    env=self._environment,
                )
            except OSError as error:
                ours.close()
                return str(error)
        self._engine.attach_second_level(ours.detach())
        while process.poll() is None:
            if self._stopping.wait(_LOOK_S):
                process.kill()  # it has nothing that is worth waiting for
                process.wait(_STOP_SECONDS)
        return process.returncode
