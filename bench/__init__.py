"""Benchmarks of Penstock against its yardsticks, and the soak test: `python -m bench --help`. Never installed."""

__all__: list[str] = []
