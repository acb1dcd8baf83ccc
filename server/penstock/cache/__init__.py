"""The second level of the result cache: a process of its own that puts answers into Redis and looks for them there."""

__all__: list[str] = []
