"""The one door to the SDK: the client of a command, and what is said when it fails.

Whatever a command asks a server, it asks through penstock_client.
"""

from __future__ import annotations

import os
from pathlib import Path

import penstock_client
from penstock.core.errors import ConfigError
from penstock_client.admin import Keys, Models

__all__ = ["Keys", "Models", "client_of", "complaint", "has_key", "key_of"]

_KEY_VARIABLES = ("PENSTOCK_API_KEY", "PENSTOCK_KEY")
_WHERE = "--url or PENSTOCK_URL says where the server is"


def client_of(
    url: str | None,
    key_file: Path | None,
    *,
    timeout_s: float | None = 60.0,
    retries: penstock_client.Retries = penstock_client.Retries(),  # noqa: B008 - frozen
    repeatable: bool = False,
    hook: penstock_client.Hook | None = None,
) -> penstock_client.Client:
    """Return the client for what the command line says, or else the environment; ConfigError when it cannot be used."""
    try:
        return penstock_client.Client(
            url, key=key_of(key_file), timeout_s=timeout_s, retries=retries, repeatable=repeatable, hook=hook
        )
    except penstock_client.ArgumentError as error:
        raise ConfigError(error.detail) from error


def has_key(key_file: Path | None) -> bool:
    """Whether client_of() would show a key."""
    return key_of(key_file) is not None


def key_of(file: Path | None) -> str | None:
    """Return the key that a file or the environment has; ConfigError when what is there is none."""
    if file is not None:
        try:
            key = file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it holds something else than a key"
            raise ConfigError(f"cannot read the key file {file}: {reason}") from error
        return _checked(key, str(file))
    for name in _KEY_VARIABLES:
        if key := os.environ.get(name, "").strip():
            return _checked(key, name)
    return None


def _checked(key: str, source: str) -> str:
    # The key itself is not shown: what stands in its place may be another secret.
    if not key or not key.isascii() or any(character.isspace() for character in key):
        raise ConfigError(f"what {source} holds is no key: a key is one word that begins with psk_")
    return key


def complaint(error: Exception) -> tuple[str, int] | None:
    """Return what is said of an error of the SDK, and the exit status; None for any other.

    The status is 1 where the server refused, 2 for wrong usage, 3 where nothing answered.
    """
    if not isinstance(error, penstock_client.PenstockError):
        return None
    if isinstance(error, penstock_client.ArgumentError):
        return error.detail, 2
    if isinstance(error, penstock_client.RefusedError):
        return _refusal(error), 1
    if isinstance(error, penstock_client.ProtocolError):
        return f"{error.detail}; {_WHERE}", 1
    if isinstance(error, penstock_client.ConnectError):
        return f"{error.detail} {_WHERE}", 3
    if isinstance(error, penstock_client.TransportError):
        return str(error), 3
    return str(error), 1


def _refusal(error: penstock_client.RefusedError) -> str:
    if not error.code:
        return f"something answers with {error.status}, but not as Penstock does; {_WHERE}"
    text = f"{error.detail} ({error.code})"
    if error.status == 401:
        text += "; put a key into PENSTOCK_API_KEY, or into a file for --key-file"
    if error.status >= 500:
        text += f"; the server's log may say more of request {error.request_id}"
    return text
