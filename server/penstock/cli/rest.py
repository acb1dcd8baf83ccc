"""A server's REST interface as the commands ask it: JSON there and back, a refusal as an exception."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from penstock.core.errors import ConfigError, PenstockError

__all__ = ["RefusedError", "Rest", "model_path"]

URL_VARIABLE, KEY_VARIABLE = "PENSTOCK_URL", "PENSTOCK_KEY"
_USUAL_URL = "http://127.0.0.1:8000"
# Loading, warming and proving a model takes as long as its settings let it.
_TIMEOUT_S = 3600.0


class RefusedError(PenstockError):
    """The server refused; `code` is the entry of the problem catalogue, empty when it gave none."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class Rest:
    """Where a server is asked, and with which key."""

    url: str
    key: str | None = None

    @classmethod
    def of(cls, url: str | None, key_file: Path | None) -> Rest:
        """Take what the command line says, else the environment; ConfigError when it cannot be used."""
        url = url or os.environ.get(URL_VARIABLE) or _USUAL_URL
        if not _is_url(url):
            raise ConfigError(f"{url!r} is no address of a server: write http://HOST:PORT or unix:/PATH")
        key = os.environ.get(KEY_VARIABLE)
        if key_file is not None:
            try:
                key = key_file.read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "it holds something else than a key"
                raise ConfigError(f"cannot read the key file {key_file}: {reason}") from error
        key = (key or "").strip()
        if not key.isascii() or any(character.isspace() for character in key):
            raise ConfigError(
                f"what {key_file or KEY_VARIABLE} holds is no key: a key is one word that begins with psk_"
            )
        return cls(url, key or None)

    def ask(
        self,
        method: str,
        path: str,
        document: Mapping[str, object] | None = None,
        *,
        query: Mapping[str, object] | None = None,
        archive: IO[bytes] | None = None,
    ) -> Any:
        """Send a request with a JSON document or an archive; the JSON answered. RefusedError says why not."""
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        target = path + ("?" + urlencode(asked) if asked else "")
        headers = {"Accept": "application/json"}
        body: bytes | IO[bytes] | None = archive
        if archive is not None:
            headers["Content-Type"] = "application/x-tar"
            headers["Content-Length"] = str(os.fstat(archive.fileno()).st_size)
        elif document is not None or method != "GET":
            headers["Content-Type"] = "application/json"
            body = json.dumps({} if document is None else document, ensure_ascii=False).encode()
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        status, answer = self._exchange(method, target, body, headers)
        return self._read(status, answer)

    def _exchange(
        self, method: str, target: str, body: bytes | IO[bytes] | None, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        connection, prefix = _connect(self.url)
        try:
            try:
                connection.request(method, prefix + target, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # It may have answered before it had read everything, as it does to a body that is too large.
                if connection.sock is None:
                    raise
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise RefusedError(
                f"nothing answers at {self.url}: {reason}; is `penstock serve` running there? --url or {URL_VARIABLE} "
                "says where"
            ) from error
        finally:
            connection.close()

    def _read(self, status: int, answer: bytes) -> Any:
        try:
            document = json.loads(answer) if answer.strip() else {}
        except ValueError:
            raise RefusedError(f"something at {self.url} answers, but not as Penstock does: {answer[:100]!r}") from None
        if 200 <= status < 300:
            return document
        if not isinstance(document, dict) or "detail" not in document:
            raise RefusedError(f"something at {self.url} answers with {status}, but not as Penstock does")
        text, code = str(document["detail"]), str(document.get("code", ""))
        if status == 401:
            text += f"; put a key into {KEY_VARIABLE}, or into a file for --key-file"
        raise RefusedError(text, code)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(self._path)


def model_path(name: str, *parts: str) -> str:
    """Return the path of a model's route."""
    return "/".join(["/models", quote(name, safe=""), *(quote(part, safe="") for part in parts)])


def _is_url(url: str) -> bool:
    if url.startswith("unix:"):
        return url != "unix:"
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
    except ValueError:
        return False


def _connect(url: str) -> tuple[http.client.HTTPConnection, str]:
    """Return a connection that is yet to be made, and what stands before each path."""
    if url.startswith("unix:"):
        return _UnixConnection(url.removeprefix("unix:")), ""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S), parts.path.rstrip("/")
