"""Answers as server-sent events, the event streams of the HTML standard: each line is an event of its own."""

from __future__ import annotations

__all__ = ["EVENT_STREAM", "EVENT_STREAM_HEADERS", "end_of", "events_of"]

EVENT_STREAM = "text/event-stream"
# Neither kept nor held back: nginx collects an answer before it sends it on unless it is told not to.
EVENT_STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def events_of(lines: bytes) -> bytes:
    """Return an event for each line of JSON, which ends with a newline and has no other line break in it."""
    return b"data: " + lines[:-1].replace(b"\n", b"\n\ndata: ") + b"\n\n" if lines else b""


def end_of(rows: int) -> bytes:
    """Return the last event, which tells a whole answer of so many rows from one that was cut on its way."""
    return b'event: end\ndata: {"rows":%d}\n\n' % rows
