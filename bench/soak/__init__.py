"""Half an hour of everything at once: no wrong answer, none lost, memory flat, no lost wake-up."""

from bench.soak.run import SoakOptions, SoakResult, run_soak

__all__ = ["SoakOptions", "SoakResult", "run_soak"]
