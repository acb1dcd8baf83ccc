"""Processes beside the main one: what needs libraries that it does not load."""

__all__: list[str] = []
