"""Traces: what the data plane's tap recorded becomes spans, which a process of its own sends to a collector."""

__all__: list[str] = []
