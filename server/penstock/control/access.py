"""Who may do what. The data plane checks keys and says who asks; here it is decided whether that is enough.

Its two headers cannot come from a client: it removes what a client sends under these names.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar
from urllib.parse import urlsplit

from flask import request

from penstock.core.errors import RequestError
from penstock.registry.records import Role

__all__ = ["DEVELOPMENT", "needs", "principal", "role_needed"]

# Who asks without a key while the server is in development mode.
DEVELOPMENT = "development"

_PRINCIPAL = "X-Penstock-Principal"
_ROLE = "X-Penstock-Role"
# Each role contains the ones before it.
_RISING = (Role.PREDICT, Role.OPERATOR, Role.ADMIN)

_Self = TypeVar("_Self")
_P = ParamSpec("_P")
_R = TypeVar("_R")
_Method = Callable[Concatenate[_Self, _P], _R]


def needs(role: Role) -> Callable[[_Method[_Self, _P, _R]], _Method[_Self, _P, _R]]:
    """Let a resource's method run only for who has the role: 401 for nobody, 403 for too little."""

    def decorate(method: _Method[_Self, _P, _R]) -> _Method[_Self, _P, _R]:
        @functools.wraps(method)
        def checked(self: _Self, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            _admit(role)
            return method(self, *args, **kwargs)

        checked._role_needed = role  # type: ignore[attr-defined]  # read by role_needed()
        return checked

    return decorate


def role_needed(method: Callable[..., object]) -> Role | None:
    """Return the role that a resource's method asks for; None for one that is open."""
    return getattr(method, "_role_needed", None)


def principal() -> str:
    """Return who asks: the id of a key, or `development`."""
    return request.headers.get(_PRINCIPAL, "")


def _admit(role: Role) -> None:
    who = principal()
    try:
        has = Role(request.headers.get(_ROLE, ""))
    except ValueError:
        has = None
    if not who or has is None:
        raise RequestError(
            "unauthorized",
            f"this needs a key with the role {role}: send it as 'Authorization: Bearer psk_...'; "
            "'penstock keys create NAME --role ROLE' makes one",
        )
    if _RISING.index(has) < _RISING.index(role):
        raise RequestError("forbidden", f"this needs the role {role}; the key {who} has the role {has}")
    if who == DEVELOPMENT:
        _refuse_foreign_pages(request.headers.get("Host", ""), request.headers.get("Origin"))


def _refuse_foreign_pages(host: str, origin: str | None) -> None:
    """Keep web pages of others from using a browser of this machine, where no key stands in their way.

    A page's own server is named by Origin; a page whose name was pointed to this machine (DNS rebinding) by Host.
    """
    if not _is_loopback(host):
        raise RequestError(
            "forbidden",
            f"in development mode the server is asked as localhost or by its loopback address, not as {host[:100]!r}; "
            "use http://127.0.0.1 with its port, or send a key",
        )
    if origin is not None and _place(origin) != _place(f"//{host}", urlsplit(origin).scheme):
        raise RequestError(
            "forbidden",
            f"in development mode a page of {origin[:100]!r} may not change anything here; send a key",
        )


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _place(url: str, scheme: str = "") -> tuple[str, int] | None:
    """Return the host and port that a URL names; None when it names none, as 'null' does."""
    try:
        parts = urlsplit(url, scheme)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None
    return None if parts.hostname is None or port is None else (parts.hostname, port)
