"""Where a server is: http://HOST:PORT, https://HOST:PORT or unix:/PATH, with a path before its routes if need be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from penstock_client.errors import ArgumentError

if TYPE_CHECKING:
    import ssl

__all__ = ["Address", "told"]

_HOST = re.compile(r"[^\s\x00-\x20\x7f/?#@\\]+")
# A path that is quoted already, as it stands in a request.
_PATH = re.compile(r"[!-~]*")


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says. `path` is a Unix socket's and empty for TCP; `prefix` stands before every route."""

    url: str
    host: str
    port: int
    path: str
    prefix: str
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, url: str, tls: ssl.SSLContext | None) -> Address:
        """Read a URL; ArgumentError when it is none."""
        if url.startswith("unix:"):
            # Also unix:///PATH, which is how RFC 3986 writes a path without an authority.
            path = url.removeprefix("unix:")
            path = path.removeprefix("//") if path.startswith("///") else path
            if not path or "\0" in path:
                raise ArgumentError(f"{url!r} names no socket: write unix:/PATH")
            return cls(url, "localhost", 0, path, "", None)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ArgumentError(f"{url!r} is no address: {error}") from None
        more = parts.query or parts.fragment or parts.username is not None
        if parts.scheme not in ("http", "https") or not _is_host(host) or port == 0 or more:
            raise ArgumentError(f"{url!r} is no address of a server: write http://HOST:PORT or unix:/PATH")
        if _PATH.fullmatch(parts.path) is None:
            raise ArgumentError(f"{url!r}: what is not ASCII, and spaces, are written as %XX in a path")
        assert host is not None
        secure = parts.scheme == "https"
        context = (tls or _usual_trust()) if secure else None
        return cls(url, host, port or (443 if secure else 80), "", parts.path.rstrip("/"), context)

    @property
    def authority(self) -> str:
        """The value of the field Host."""
        if self.path:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host.encode("idna").decode()
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return self.url


def _is_host(host: str | None) -> bool:
    if not host or _HOST.fullmatch(host) is None:
        return False
    try:
        return ":" in host or bool(host.encode("idna"))
    except UnicodeError:
        return False


def _usual_trust() -> ssl.SSLContext:
    import ssl  # a tenth of what importing the client takes, and most clients do without

    return ssl.create_default_context()


def told(address: Address, error: Exception) -> str:
    """Say why there is no connection, and what may mend it."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    advice = "is `penstock serve` running there?"
    if address.tls is not None:
        import ssl

        if isinstance(error, ssl.SSLCertVerificationError):
            advice = "tls=ssl.create_default_context(cafile=...) trusts a certificate of your own"
        elif isinstance(error, ssl.SSLError):
            plain = f"http://{address.authority}{address.prefix}"
            if error.reason == "WRONG_VERSION_NUMBER":  # which is how OpenSSL reads an answer of plain HTTP
                reason = "what is there does not speak TLS"
            advice = f"is it {plain} without TLS?"
    return f"cannot connect to {address}: {reason}; {advice}"
