"""Ports for servers that are stopped and started again."""

import random
import socket

__all__ = ["lasting_port"]

# Below those that Linux gives to whoever asks for any: nobody takes one while its server is down.
_FIRST, _LAST = 20_000, 32_000


def lasting_port() -> int:
    """Return a TCP port that is free and that no other program gets by chance."""
    ports = list(range(_FIRST, _LAST))
    random.SystemRandom().shuffle(ports)
    for port in ports:
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise AssertionError(f"no port between {_FIRST} and {_LAST} is free")
