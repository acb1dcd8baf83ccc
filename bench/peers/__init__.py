"""Rivals under the same load: each in an environment of its own, with the same compute and every answer checked."""

__all__: list[str] = []
