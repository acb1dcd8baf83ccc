"""Reads Prometheus' text format, as far as the benchmarks need it."""

import re
from dataclasses import dataclass

__all__ = ["Metrics", "parse"]

SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Metrics:
    """The samples of one scrape: (name, labels, value)."""

    samples: tuple[tuple[str, dict[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples of a name whose labels include these; 0 when there are none."""
        return sum(value for _, value in self._matching(name, labels))

    def largest(self, name: str, **labels: str) -> float:
        """Return the largest sample of a name whose labels include these; KeyError when there is none."""
        values = [value for _, value in self._matching(name, labels)]
        if not values:
            raise KeyError(name)
        return max(values)

    def _matching(self, name: str, labels: dict[str, str]) -> list[tuple[str, float]]:
        return [
            (found, value)
            for found, carried, value in self.samples
            if found == name and labels.items() <= carried.items()
        ]


def parse(text: str) -> Metrics:
    """Parse a scrape; lines that are no samples are passed over."""
    matches = (SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return Metrics(
        tuple(
            (match["name"], dict(LABEL.findall(match["labels"] or "")), float(match["value"]))
            for match in matches
            if match
        )
    )
