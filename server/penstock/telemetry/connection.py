"""The one connection to a collector: kept alive, made anew when it is gone, through a proxy where there is one."""

from __future__ import annotations

import base64
import http.client
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.telemetry.environment import Destination

if TYPE_CHECKING:
    import ssl

__all__ = ["Connection", "Response"]

# Of an answer nothing is read but its status; collectors answer a few bytes.
_ANSWER_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """What was answered."""

    status: int
    retry_after: str | None


class Connection:
    """Posts to one URL. One thread."""

    def __init__(self, destination: Destination, headers: Mapping[str, str]) -> None:
        """Connects when it is needed. OSError when a certificate cannot be read, ValueError for no URL."""
        url = urllib.parse.urlsplit(destination.url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"{destination.url!r} is no URL of a collector")
        self.address = f"{url.scheme}://{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"
        self._headers = {**_authorization("Authorization", url), **headers}
        self._target = urllib.parse.urlunsplit(("", "", url.path or "/", url.query, ""))
        self._tls = _context(destination) if url.scheme == "https" else None
        self._connection = self._made(url)
        self._is_new = True

    def post(self, body: bytes, seconds: float) -> Response:
        """Send it and wait for the answer, each step so long at most; OSError or HTTPException when that fails."""
        connection = self._connection
        connection.timeout = seconds
        if connection.sock is not None:
            connection.sock.settimeout(seconds)
        try:
            return self._post(body)
        except (ConnectionError, http.client.RemoteDisconnected):
            # A connection that was idle may have been closed by the other side, which is no sign of trouble.
            if self._is_new:
                raise
            return self._post(body)

    def close(self) -> None:
        """End it; the next post() makes it anew."""
        self._connection.close()

    def _post(self, body: bytes) -> Response:
        self._is_new = self._connection.sock is None
        try:
            self._connection.request("POST", self._target, body, self._headers)
            response = self._connection.getresponse()
            if len(response.read(_ANSWER_BYTES_MAX)) == _ANSWER_BYTES_MAX:
                self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        return Response(response.status, response.getheader("Retry-After"))

    def _made(self, url: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        host = url.hostname or ""
        proxy = _proxy_of(url)
        if proxy is None:
            if self._tls is None:
                return http.client.HTTPConnection(host, url.port)
            return http.client.HTTPSConnection(host, url.port, context=self._tls)
        credentials = _authorization("Proxy-Authorization", proxy)
        if self._tls is None:
            self._target = urllib.parse.urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2], fragment=""))
            self._headers |= credentials
            return http.client.HTTPConnection(proxy.hostname or "", proxy.port)
        connection = http.client.HTTPSConnection(proxy.hostname or "", proxy.port, context=self._tls)
        connection.set_tunnel(host, url.port, credentials)
        return connection


def _context(destination: Destination) -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context(cafile=destination.certificate)
    if destination.client_certificate is not None:
        context.load_cert_chain(destination.client_certificate, destination.client_key)
    return context


def _proxy_of(url: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    """As HTTP_PROXY, HTTPS_PROXY and NO_PROXY say."""
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy is None or urllib.request.proxy_bypass(url.hostname or ""):
        return None
    return urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _authorization(name: str, url: urllib.parse.SplitResult) -> dict[str, str]:
    if url.username is None:
        return {}
    user, password = urllib.parse.unquote(url.username), urllib.parse.unquote(url.password or "")
    return {name: "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
