"""What a client is given, and the environment, as settings."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING

from penstock_client.about import __version__
from penstock_client.address import Address
from penstock_client.core import Settings
from penstock_client.errors import ArgumentError
from penstock_client.hooks import Hook
from penstock_client.retrying import Retries

if TYPE_CHECKING:
    import ssl

__all__ = ["settings_for"]

_URL_VARIABLE = "PENSTOCK_URL"
# The second is what the server's own commands take.
_KEY_VARIABLES = ("PENSTOCK_API_KEY", "PENSTOCK_KEY")
_USUAL_URL = "http://127.0.0.1:8000"


def settings_for(
    url: str | None,
    key: str | None,
    timeout_s: float | None,
    retries: Retries,
    repeatable: bool,
    tls: ssl.SSLContext | None,
    hook: Hook | None,
    connections_max: int,
) -> Settings:
    """Return the settings of a client; ArgumentError says what cannot be."""
    if connections_max < 1:
        raise ArgumentError(f"connections_max is {connections_max}: it is 1 or more")
    if timeout_s is not None and not timeout_s > 0:
        raise ArgumentError(f"a timeout of {timeout_s} s: it must be more than 0, or None")
    url = url or os.environ.get(_URL_VARIABLE) or _USUAL_URL
    if key is None:
        key = next((found for name in _KEY_VARIABLES if (found := os.environ.get(name))), None)
    agent = f"penstock-client/{__version__} Python/{platform.python_version()}"
    return Settings(Address.of(url, tls), agent, timeout_s, retries, repeatable, key, hook)
