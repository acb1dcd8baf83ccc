"""Penstock: a dynamic-batching inference server. Python runs once per batch, never once per request."""

__all__ = ["__version__"]

__version__ = "0.1.0"
