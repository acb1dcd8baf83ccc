"""Registered models: content-addressed versions, aliases with their history, keys. Plain asyncio."""

__all__: list[str] = []
