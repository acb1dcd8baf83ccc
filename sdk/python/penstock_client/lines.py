"""Rows as lines, NDJSON or CSV, which the server reads and answers by itself."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlencode

from penstock_client.core import Call, Core, Request
from penstock_client.errors import ArgumentError
from penstock_client.predicting import check_names
from penstock_client.steps import Steps

__all__ = ["LINES_BYTES_MAX", "LineFormat", "predicted_lines"]

LineFormat = Literal["ndjson", "csv"]
# The server reads so much ahead of its answers. Whoever sends more before reading any could wait for itself.
LINES_BYTES_MAX = 512 * 1024
_MEDIA: dict[str, str] = {"ndjson": "application/x-ndjson", "csv": "text/csv"}


def predicted_lines(
    core: Core, model: str, lines: bytes, form: str, answer: str | None, version: str | None, call: Call
) -> Steps[bytes]:
    """Send lines and return those that answer them."""
    check_names(model, version)
    for name in (form, answer or form):
        if name not in _MEDIA:
            raise ArgumentError(f"the format {name!r}: lines are {' or '.join(_MEDIA)}")
    if len(lines) > LINES_BYTES_MAX and lines.find(b"\n", 0, -1) >= 0:
        raise ArgumentError(f"{len(lines)} bytes of lines: send {LINES_BYTES_MAX} at a time, or a single line")
    asked = {"model": model, **({} if version is None else {"version": version})}
    target = f"/predict/batch?{urlencode(asked)}"
    request = Request("POST", target, lines, _MEDIA[form], _MEDIA[answer or form])
    reply = yield from core.send(request, call)
    return bytes(reply.body)
