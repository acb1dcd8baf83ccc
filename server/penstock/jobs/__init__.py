"""Processes for one request each: what needs libraries that the main process does not load."""

__all__: list[str] = []
