"""The certificate that public connections are encrypted with, and its replacement while the server runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import ConfigError, ListenError
from penstock.serve.hangup import on_hangup

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["encrypt", "follow_certificate"]

_log = logging.getLogger("penstock.serve")

# Those who renew certificates write files and tell nobody.
_LOOK_INTERVAL_S = 10.0


def encrypt(engine: Engine, certificate: Path | None, key: Path | None) -> None:
    """Have the engine encrypt connections when there is a certificate; ConfigError, ListenError when it is no use."""
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        given, missing = ("tls_key", "tls_cert") if certificate is None else ("tls_cert", "tls_key")
        raise ConfigError(f"{given} is given without {missing}: a certificate needs its key, and a key its certificate")
    try:
        engine.set_tls(str(certificate), str(key))
    except ValueError as error:
        raise ListenError(f"TLS: {error}") from error


@contextmanager
def follow_certificate(engine: Engine, certificate: Path | None, key: Path | None) -> Iterator[None]:
    """Take a new certificate when the files have changed, or at once on SIGHUP. A wrong one changes nothing."""
    if certificate is None or key is None:
        yield
        return
    follower = _Follower(engine, certificate, key)
    thread = threading.Thread(target=follower.run, name="penstock-tls", daemon=True)
    thread.start()
    try:
        with on_hangup(follower.look):
            yield
    finally:
        follower.stop()
        thread.join()


class _Follower:
    def __init__(self, engine: Engine, certificate: Path, key: Path) -> None:
        self._engine = engine
        self._files = (certificate, key)
        self._seen = self._stamps()
        self._asked = threading.Event()
        self._stopped = threading.Event()

    def look(self) -> None:
        self._seen = ()
        self._asked.set()

    def stop(self) -> None:
        self._stopped.set()
        self._asked.set()

    def run(self) -> None:
        while not self._stopped.is_set():
            self._asked.wait(_LOOK_INTERVAL_S)
            self._asked.clear()
            stamps = self._stamps()
            if not self._stopped.is_set() and stamps != self._seen:
                self._seen = stamps
                self._take()

    def _take(self) -> None:
        certificate, key = self._files
        try:
            self._engine.set_tls(str(certificate), str(key))
        except ValueError as error:
            # Two files are not replaced at once: the second one is a change as well, and is looked at then.
            _log.warning("the new certificate is not taken, the one before stays", extra={"reason": str(error)})
        else:
            _log.info("the certificate was replaced", extra={"certificate": str(certificate)})

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        """Return what changes when a file, or what a link leads to, is replaced."""
        stamps = []
        for path in self._files:
            try:
                status = path.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((status.st_ino, status.st_mtime_ns, status.st_size))
        return tuple(stamps)
