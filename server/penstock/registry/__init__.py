"""Registered models: content-addressed versions, aliases with their history, keys. Plain asyncio."""

from penstock.registry.registry import Registry

__all__ = ["Registry"]
