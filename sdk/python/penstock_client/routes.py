"""The steps of administration: JSON there and back."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlencode

from penstock_client.core import Call, Core, Request
from penstock_client.documents import Event, History, Key, KeyList, ModelList, ModelSummary
from penstock_client.errors import RefusedError, TimedOutError, TransportError
from penstock_client.messages import Reply
from penstock_client.plain import to_json
from penstock_client.predicting import check_names, unreadable
from penstock_client.retrying import Retries
from penstock_client.steps import Sleep, Steps

if TYPE_CHECKING:
    from penstock_client.packing import Archive

__all__ = ["Routes"]

D = TypeVar("D")

# Loading, warming and proving a model takes as long as its settings let it.
_PATIENT = Call(timeout_s=math.inf)
# What is something else the second time: a database that was late may have done what it was not heard to do.
_ONCE = Call(timeout_s=math.inf, retries=Retries(attempts_max=1))
_PAGE = 1000
_LOOK_S = 0.05
# What is asked now is how it is now.
_LOOK = Call(timeout_s=5.0, retries=Retries(attempts_max=1))


class Routes:
    """Asks routes that answer with JSON."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def get(self, kind: type[D], root: str, *parts: str, query: Mapping[str, object] | None = None) -> Steps[D]:
        """GET root/parts?query."""
        return self._ask(kind, "GET", _target(root, parts, query), None, Call())

    def post(self, kind: type[D], root: str, *parts: str, document: Mapping[str, object]) -> Steps[D]:
        """POST a document."""
        return self._ask(kind, "POST", _target(root, parts), to_json(document), _PATIENT)

    def post_once(self, kind: type[D], root: str, *parts: str, document: Mapping[str, object]) -> Steps[D]:
        """POST a document that is never sent again, whatever becomes of it."""
        return self._ask(kind, "POST", _target(root, parts), to_json(document), _ONCE)

    def put(self, kind: type[D], root: str, *parts: str, document: Mapping[str, object]) -> Steps[D]:
        """PUT a document."""
        return self._ask(kind, "PUT", _target(root, parts), to_json(document), _PATIENT)

    def delete(self, kind: type[D], root: str, *parts: str, query: Mapping[str, object] | None = None) -> Steps[D]:
        """DELETE root/parts?query."""
        return self._ask(kind, "DELETE", _target(root, parts, query), None, _PATIENT)

    def upload(self, kind: type[D], root: str, archive: Archive) -> Steps[D]:
        """POST an archive."""
        request = Request("POST", root, b"", "application/x-tar", more=archive, more_bytes=archive.bytes)
        reply = yield from self._core.send(request, _PATIENT)
        return _document(kind, reply)

    def models(self) -> Steps[list[ModelSummary]]:
        """GET every page of /models."""
        found: list[ModelSummary] = []
        after = None
        while True:
            page = yield from self.get(ModelList, "/models", query={"limit": _PAGE, "after": after})
            found += page["models"]
            after = page["next"]
            if after is None:
                return found

    def keys(self) -> Steps[list[Key]]:
        """GET /keys."""
        page = yield from self.get(KeyList, "/keys")
        return page["keys"]

    def history(self, name: str, at: str | None, limit: int) -> Steps[list[Event]]:
        """GET as many pages of a model's history as hold `limit` events."""
        found: list[Event] = []
        before = None
        while len(found) < limit:
            asked = {"limit": min(limit - len(found), _PAGE), "before": before, "at": at}
            page = yield from self.get(History, "/models", name, "history", query=asked)
            found += page["events"]
            before = page["next"]
            if before is None:
                break
        return found

    def healthy(self, path: str) -> Steps[bool]:
        """GET a route of health; False for a server that is not there, or says no."""
        try:
            yield from self._core.send(Request("GET", path), _LOOK)
        except (RefusedError, TransportError):
            return False
        return True

    def text(self, path: str) -> Steps[str]:
        """GET a route that answers with plain text."""
        reply = yield from self._core.send(Request("GET", path, accept="text/plain"), Call())
        try:
            return reply.text()
        except ValueError as error:
            raise unreadable(reply, error) from error

    def until_ready(self, timeout_s: float) -> Steps[None]:
        """Wait until the server is ready; TimedOutError when it is not by then."""
        deadline = time.monotonic() + timeout_s
        while not (yield from self.healthy("/health/ready")):
            if time.monotonic() >= deadline:
                address = self._core.settings.address
                raise TimedOutError(f"{address} was not ready within {timeout_s:g} s")
            yield Sleep(_LOOK_S)

    def _ask(self, kind: type[D], method: str, target: str, body: bytes | None, call: Call) -> Steps[D]:
        content_type = "" if body is None else "application/json"
        reply = yield from self._core.send(Request(method, target, body, content_type), call)
        return _document(kind, reply)


def _target(root: str, parts: tuple[str, ...], query: Mapping[str, object] | None = None) -> str:
    asked = {name: value for name, value in (query or {}).items() if value not in (None, "")}
    for part in parts:
        check_names(part, None)
    path = "/".join([root, *(quote(part, safe="") for part in parts)])
    return f"{path}?{urlencode(asked)}" if asked else path


def _document(kind: type[D], reply: Reply) -> D:
    try:
        # The server is tested against the description that the types are made from.
        document: D = json.loads(reply.text())
        return document
    except (ValueError, RecursionError) as error:
        raise unreadable(reply, error) from error
