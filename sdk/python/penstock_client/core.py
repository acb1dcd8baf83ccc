"""The request core: what is sent, what an answer means, and whether it is sent again. Both clients drive it."""

from __future__ import annotations

import itertools
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from penstock_client.address import Address
from penstock_client.errors import (
    ArgumentError,
    ClientError,
    PenstockError,
    ProtocolError,
    RefusedError,
    ServerError,
)
from penstock_client.hooks import Hook, Span
from penstock_client.identity import checked_id, next_id
from penstock_client.messages import Reply
from penstock_client.problems import CLASSES
from penstock_client.retrying import Retries
from penstock_client.steps import Failure, Outcome, Send, Sleep, Steps

__all__ = ["PLAIN", "Call", "Core", "Priority", "Request", "Settings", "refusal", "row_refusal"]

Priority = Literal["interactive", "normal", "batch"]
_PRIORITIES = ("interactive", "normal", "batch")
# The server answers a request that is late with a 504, up to 8 ms after its time. That answer says more than silence
# does, so a client waits a little longer than the server may take.
_GRACE_S = 0.1
_PARENT = re.compile(r"[0-9a-f-]{55,200}")
_PLACES = {"models": "{name}", "versions": "{version}", "aliases": "{alias}", "keys": "{id}"}
_TIMEOUT_MS_MAX = 86_400_000
# More is no limit: poll() counts milliseconds in 31 bits.
_TIMEOUT_S_MAX = 1e6
# Below this, head and body go out as one piece.
_JOINED_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Settings:
    """What all calls of a client have in common."""

    address: Address
    user_agent: str
    timeout_s: float | None = 60.0
    retries: Retries = field(default_factory=Retries)
    repeatable: bool = False
    key: str | None = field(default=None, repr=False)
    hook: Hook | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """What one call says beyond its body. None stands for what the client's settings say, and inf for no limit."""

    timeout_s: float | None = None
    priority: Priority | None = None
    receipt: bool = False
    reproducible: bool = False
    repeatable: bool | None = None
    request_id: str | None = None
    retries: Retries | None = None


PLAIN = Call()


@dataclass(slots=True)
class Request:
    """What is sent.

    Attributes:
        method: GET is repeatable by itself.
        target: The path with its query, quoted; the address's prefix goes before it.
        body: None for a request without one.
        more: What follows `body` on the wire, `more_bytes` long. It is iterated once for each attempt.
        more_bytes: How many bytes `more` has.
        content_type: The body's.
        accept: What the answer may be.
        extra: More fields, each with its CRLF.
    """

    method: str
    target: str
    body: bytes | None = None
    content_type: str = ""
    accept: str = "application/json"
    more: Iterable[bytes | memoryview] = ()
    more_bytes: int = 0
    extra: str = ""

    @property
    def bytes(self) -> int:
        """The length of the whole body."""
        return len(self.body or b"") + self.more_bytes


class Core:
    """Makes requests and reads answers. It holds no connection, so it may be used from anywhere at once."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._prefixes: dict[tuple[str, str, str, str], bytes] = {}
        fields = [f"Host: {settings.address.authority}", f"User-Agent: {settings.user_agent}"]
        if settings.key is not None:
            if not settings.key or not settings.key.isascii() or not settings.key.isprintable() or " " in settings.key:
                raise ArgumentError("that is no key: a key is one word that begins with psk_")
            fields.append(f"Authorization: Bearer {settings.key}")
        self._fields = "".join(f"{line}\r\n" for line in fields)

    def send(self, request: Request, call: Call = PLAIN) -> Steps[Reply]:
        """Send a request until it is answered with a 2xx; raises what else becomes of it."""
        request_id = next_id() if call.request_id is None else checked_id(call.request_id)
        hook = self.settings.hook
        if hook is None:
            return self._attempts(request, call, request_id, None)
        url = self.settings.address.url.rstrip("/") + request.target
        span = hook.started(request.method, _route_of(request.target), url, request_id)
        return _observed(self._attempts(request, call, request_id, span), span)

    def _attempts(self, request: Request, call: Call, request_id: str, span: Span | None) -> Steps[Reply]:
        settings = self.settings
        timeout = settings.timeout_s if call.timeout_s is None else call.timeout_s
        deadline = None if timeout is None or timeout > _TIMEOUT_S_MAX else time.monotonic() + timeout
        repeatable = settings.repeatable if call.repeatable is None else call.repeatable
        repeatable = repeatable or request.method == "GET"
        prefix = self._prefix(request)
        extra = request.extra + _fields_of(call, span)
        attempt, ran = 1, False
        while True:
            head = _head(prefix, request_id, extra, deadline, request)
            outcome = yield _send_of(head, request, None if deadline is None else deadline + _GRACE_S)
            if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
                return outcome
            error = _error_of(outcome, request_id, attempt)
            wait = (call.retries or settings.retries).wait_s(error, attempt, repeatable)
            # Of all attempts: a refusal says of its own alone that it did not run.
            ran = error.may_have_run = error.may_have_run or ran
            if wait is None or (deadline is not None and time.monotonic() + wait >= deadline):
                raise error
            if span is not None:
                span.retried(error, wait)
            yield Sleep(wait)
            attempt += 1

    def _prefix(self, request: Request) -> bytes:
        key = (request.method, request.target, request.content_type, request.accept)
        known = self._prefixes.get(key)
        if known is not None:
            return known
        method, target, content_type, accept = key
        text = f"{method} {self.settings.address.prefix}{target} HTTP/1.1\r\n{self._fields}Accept: {accept}\r\n"
        if content_type:
            text += f"Content-Type: {content_type}\r\n"
        prefix = text.encode("ascii")
        if len(self._prefixes) >= 1000:  # a program that makes up names must not fill the memory
            self._prefixes.clear()
        self._prefixes[key] = prefix
        return prefix


def _send_of(head: bytes, request: Request, deadline: float | None) -> Send:
    body = request.body
    if body is None:
        return Send(head, (), deadline)
    if request.bytes <= _JOINED_BYTES_MAX:
        return Send(b"".join((head, body, *request.more)), (), deadline)
    return Send(head, itertools.chain((body,), request.more), deadline)


def _route_of(target: str) -> str:
    """Return the route of a target: what stands for a name is one word for all names."""
    parts = target.partition("?")[0].split("/")
    for at, part in enumerate(parts[:-1]):
        parts[at + 1] = _PLACES.get(part, parts[at + 1])
    return "/".join(parts)


def _head(prefix: bytes, request_id: str, extra: str, deadline: float | None, request: Request) -> bytes:
    text = f"X-Request-Id: {request_id}\r\n{extra}"
    if deadline is not None:
        left_ms = math.ceil((deadline - time.monotonic()) * 1000)
        text += f"X-Request-Timeout-Ms: {min(max(left_ms, 1), _TIMEOUT_MS_MAX)}\r\n"
    if request.body is not None:
        text += f"Content-Length: {request.bytes}\r\n"
    return prefix + text.encode("ascii") + b"\r\n"


def _fields_of(call: Call, span: Span | None) -> str:
    if call is PLAIN and span is None:
        return ""
    if call.timeout_s is not None and not call.timeout_s > 0:
        raise ArgumentError(f"a timeout of {call.timeout_s} s: it must be more than 0")
    fields = ""
    if call.priority is not None:
        if call.priority not in _PRIORITIES:
            raise ArgumentError(f"priority {call.priority!r}: it is one of {', '.join(_PRIORITIES)}")
        fields += f"X-Request-Priority: {call.priority}\r\n"
    if call.receipt:
        fields += "X-Penstock-Receipt: true\r\n"
    if call.reproducible:
        fields += "X-Penstock-Reproducible: true\r\n"
    parent = span.traceparent() if span is not None else None
    # A hook may have it from elsewhere; what is none is not passed on.
    return f"{fields}traceparent: {parent}\r\n" if parent and _PARENT.fullmatch(parent) else fields


def _observed(steps: Steps[Reply], span: Span) -> Steps[Reply]:
    """Drive `steps` and tell the span how they end, also when whoever drives them gives up."""
    try:
        reply = yield from steps
    except BaseException as error:
        span.ended(getattr(error, "status", None), error)
        raise
    span.ended(reply.status, None)
    return reply


def _error_of(outcome: Outcome, request_id: str, attempt: int) -> PenstockError:
    if isinstance(outcome, Failure):
        error: PenstockError = outcome.error
        error.request_id, error.attempts = request_id, attempt
        return error
    assert isinstance(outcome, Reply)
    return refusal(outcome, request_id, attempt)


def refusal(reply: Reply, request_id: str, attempt: int) -> PenstockError:
    """Return the exception that a reply with another status than 2xx stands for."""
    problem = _problem_of(reply)
    code, said = str(problem.get("code", "")), problem.get("detail")
    detail = str(said) if said else f"an answer with status {reply.status} that says no more"
    if reply.status < 400:
        detail = f"an answer with status {reply.status}, which no route of Penstock has: is the address right?"
        return ProtocolError(detail, request_id=request_id, attempts=attempt, may_have_run=True)
    kind = CLASSES.get(code) or (ClientError if reply.status < 500 else ServerError)
    error = kind(detail, request_id=str(problem.get("request_id") or request_id), attempts=attempt)
    if kind.code != code or kind.status != reply.status:
        # A code that this version does not know, or none at all. Who has changed the one may have changed the other.
        error.retryable = False
        error.code, error.title = code, str(problem.get("title", ""))
        error.status = reply.status
        error.may_have_run = reply.status >= 500
    error.retry_after_s = _seconds(reply.field("retry-after"))
    fields = problem.get("errors")
    error.fields = tuple(entry for entry in fields if isinstance(entry, dict)) if isinstance(fields, list) else ()
    return error


def row_refusal(entry: Mapping[str, Any], request_id: str) -> RefusedError:
    """Return the exception that an entry of a batch's errors stands for."""
    code, status = str(entry.get("code", "")), int(entry.get("status", 500))
    kind = CLASSES.get(code) or (ClientError if status < 500 else ServerError)
    error = kind(str(entry.get("detail", "")), request_id=request_id, attempts=1)
    if kind.code != code:
        error.code, error.status, error.may_have_run = code, status, status >= 500
    fields = entry.get("errors")
    error.fields = tuple(field for field in fields if isinstance(field, dict)) if isinstance(fields, list) else ()
    return error


def _problem_of(reply: Reply) -> dict[str, Any]:
    kind = (reply.field("content-type") or "").partition(";")[0].strip().lower()
    if kind not in ("application/problem+json", "application/json"):
        return {}
    try:
        problem = json.loads(reply.text())
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(text) if text is not None else math.nan
    except ValueError:
        return None  # a date, which Penstock never sends
    return seconds if 0 <= seconds < math.inf else None
