"""Batches that are streamed: lines in, rows through the fast path, lines out."""

__all__: list[str] = []
