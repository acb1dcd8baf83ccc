"""Load generation and measurement: what `penstock bench` runs, and what bench/ is built on."""

__all__: list[str] = []
