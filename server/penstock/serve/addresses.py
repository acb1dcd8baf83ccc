"""The public addresses: what is bound, and what to say when it cannot be."""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING

from penstock.core.config import ServerConfig
from penstock.core.errors import ListenError, PortInUseError

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["listen"]

_log = logging.getLogger("penstock.serve")

_PORT_MAX = 65535
_NAMES = {"--port": "port", "--grpc-port": "the port for gRPC"}


def listen(engine: Engine, config: ServerConfig) -> tuple[int, int | None]:
    """Bind the public addresses; the port that was bound, and that for gRPC."""
    port = _listen_tcp(engine, config.host, config.port, "--port")
    grpc_port = _listen_grpc(engine, config)
    if config.unix_socket is not None:
        try:
            engine.listen_unix(str(config.unix_socket))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(
                    f"{config.unix_socket} exists and is in use; choose another --unix-socket"
                ) from error
            reason = os.strerror(error.errno or 0)
            raise ListenError(f"cannot listen on {config.unix_socket}: {reason}; its folder must exist") from error
    return port, grpc_port


def _listen_grpc(engine: Engine, config: ServerConfig) -> int | None:
    """Bind the port for gRPC. Every port answers gRPC, so one that nobody asked for may be missing."""
    from penstock.native._dataplane import has_http2

    if config.grpc_port is not None:
        if not has_http2():
            raise ListenError(
                "grpc_port is given, and this Penstock was built without HTTP/2: install nghttp2's headers "
                "(libnghttp2-dev) and build it again"
            )
        return _listen_tcp(engine, config.host, config.grpc_port, "--grpc-port")
    if not has_http2() or not 0 < config.port < _PORT_MAX:
        return None
    try:
        return engine.listen_tcp(config.host, config.port + 1)
    except OSError as error:
        _log.warning(
            "no port of its own for gRPC, which port answers as well: choose one with --grpc-port",
            extra={"port": config.port, "tried": config.port + 1, "reason": error.strerror},
        )
        return None


def _listen_tcp(engine: Engine, host: str, port: int, flag: str) -> int:
    try:
        return engine.listen_tcp(host, port)
    except OSError as error:
        where = f"{host}:{port}"
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"{_NAMES[flag]} {port} of {host} is in use, by another program or by a Penstock, which takes the "
                f"port behind its own for gRPC (its --grpc-port); stop it, or choose another with {flag} (0 takes a "
                "free one)"
            ) from error
        if error.errno == errno.EACCES:
            raise ListenError(f"not allowed to listen on {where}; ports below 1024 need a privilege") from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise ListenError(
                f"{host} is not an address of this machine; 127.0.0.1 serves this machine only, 0.0.0.0 everyone"
            ) from error
        raise ListenError(f"cannot listen on {where}: {error.strerror}") from error
