"""The private server: WSGI on gevent over a Unix socket that only this user's processes may speak to."""

from __future__ import annotations

import logging
import os
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent.socket
from gevent.pywsgi import WSGIServer

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["ControlServer"]

_log = logging.getLogger(__name__)

# The data plane has few calls under way at once and lets the others wait on its side.
_BACKLOG = 256
_PEER_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid


class _LogStream:
    """What pywsgi has to say about broken requests, as log records."""

    def write(self, text: str) -> None:
        if text.strip():
            _log.warning("control request", extra={"reason": text.strip()})

    def flush(self) -> None:
        pass


class _PeerCheckedServer(WSGIServer):  # type: ignore[misc]  # gevent has no types
    """Talks to processes of this user only; the folder's mode says the same, but folders can be opened by mistake."""

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection, or close it unread."""
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        _, uid, _ = _PEER_CREDENTIALS.unpack(credentials)
        if uid != os.geteuid():
            _log.warning("refused a connection to the control socket", extra={"uid": uid})
            return
        super().handle(sock, address)


class ControlServer:
    """Serves a WSGI application on a Unix socket, in greenlets of the thread that starts it."""

    def __init__(self, application: WSGIApplication, path: Path) -> None:
        self._application = application
        self._path = path
        self._server: Any = None

    def start(self) -> None:
        """Bind, listen and accept whenever the hub runs. OSError when the path cannot be used."""
        listener = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        # pywsgi's line per request goes nowhere: the application has an access log of its own.
        self._server = _PeerCheckedServer(listener, self._application, log=None, error_log=_LogStream())
        self._server.start()

    def stop(self) -> None:
        """Stop accepting, cut off what still runs, remove the socket."""
        if self._server is not None:
            self._server.stop(timeout=0)
            self._server = None
            self._path.unlink(missing_ok=True)
