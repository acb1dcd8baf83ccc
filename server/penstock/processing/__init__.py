"""Plans: what becomes of a record before the model sees it, and of its outputs before the client does."""

__all__: list[str] = []
