"""The databases behind the registry: one contract, SQLite and PostgreSQL."""

__all__: list[str] = []
