"""What a report is made of: the entries of results, typed again, and the runs of one thing over all rounds together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from bench.bare import BareResult
from bench.capacity import Capacity
from bench.results import Results
from bench.run import Phase, Sample
from bench.scenario import load_scenario, scenario_names
from bench.spread import Spread, spread
from penstock.load.measurement import KindResult, Latency, Measurement

__all__ = ["Cell", "Findings", "Server", "scenario_title"]

MAIN_CONNECTIONS = 64

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Server:
    """A target, asked in one dialect."""

    target: str
    dialect: str

    @property
    def is_ours(self) -> bool:
        """Whether it is Penstock."""
        return self.target.partition("-")[0] == "penstock"


@dataclass(frozen=True, slots=True)
class Cell:
    """All rounds of one phase of a scenario on one server.

    Rounds that are void count only where there are no others: `used` are those that figures are taken of.
    """

    scenario: str
    server: Server
    phase: Phase
    samples: tuple[Sample, ...]

    @property
    def used(self) -> tuple[Sample, ...]:
        """The rounds that mean something; all, when none does."""
        return tuple(sample for sample in self.samples if not sample.measurement.void) or self.samples

    @property
    def void_rounds(self) -> int:
        """Rounds in which the load was not what it should have been."""
        return sum(bool(sample.measurement.void) for sample in self.samples)

    @property
    def noisy_rounds(self) -> int:
        """Rounds that other work on the machine disturbed."""
        return sum(sample.measurement.is_noisy for sample in self.samples)

    @property
    def is_void(self) -> bool:
        """Whether no round means anything."""
        return self.void_rounds == len(self.samples)

    @property
    def is_doubtful(self) -> bool:
        """Whether the figures are of void or noisy rounds: drawn hollow."""
        return self.is_void or any(sample.measurement.is_noisy for sample in self.used)

    def spread(self, figure: Callable[[Measurement], float | None]) -> Spread | None:
        """Summarise a figure over the rounds that have it."""
        known = [value for sample in self.used if (value := figure(sample.measurement)) is not None]
        return spread(known) if known else None

    def median(self, figure: Callable[[Measurement], float | None]) -> float | None:
        """Take the median of a figure over the rounds that have it."""
        found = self.spread(figure)
        return None if found is None else found.median

    def latency(self, figure: Callable[[Latency], float]) -> Spread | None:
        """Summarise a latency, in us, over the rounds in which anything was answered."""
        return self.spread(lambda run: None if run.latency is None else figure(run.latency))

    @property
    def kinds(self) -> tuple[KindResult, ...]:
        """The kinds of traffic, with the figures of the first round."""
        return self.samples[0].measurement.kinds


@dataclass(frozen=True, slots=True)
class Findings:
    """Several results as one. Lists of results may hold dataclasses, or dicts once they have been files."""

    results: tuple[Results, ...]
    cells: tuple[Cell, ...]
    capacities: tuple[Capacity, ...]
    bare: tuple[BareResult, ...]
    stages: Mapping[str, Mapping[str, float]]
    versions: Mapping[str, Mapping[str, str]]
    not_run: Mapping[str, str]

    @classmethod
    def of(cls, results: Sequence[Results]) -> Findings:
        """Read them; msgspec.ValidationError for entries that are not what Results says."""
        return cls(
            tuple(results),
            _cells(_typed(Sample, (entry for each in results for entry in each.samples))),
            tuple(_typed(Capacity, (entry for each in results for entry in each.capacities))),
            tuple(_typed(BareResult, (entry for each in results for entry in each.bare))),
            {case: dict(stages) for each in results for case, stages in each.stages.items()},
            {target: dict(found) for each in results for target, found in each.versions.items()},
            {what: reason for each in results for what, reason in each.not_run.items()},
        )

    @property
    def scenarios(self) -> list[str]:
        """The scenarios that were run, in that order."""
        return list(dict.fromkeys(cell.scenario for cell in self.cells))

    def of_scenario(self, scenario: str) -> list[Cell]:
        """Return its cells: server by server, the closed loop first, then by load."""
        return [cell for cell in self.cells if cell.scenario == scenario]

    def servers(self, scenario: str) -> list[Server]:
        """Return the servers that ran a scenario."""
        return list(dict.fromkeys(cell.server for cell in self.of_scenario(scenario)))

    def main_server(self, scenario: str) -> Server:
        """Return Penstock in the dialect that came first, or whatever else there is."""
        servers = self.servers(scenario)
        return next((server for server in servers if server.is_ours), servers[0])

    def by_load(self, scenario: str, server: Server) -> list[Cell]:
        """Return a server's open loops by their load."""
        cells = [cell for cell in self.of_scenario(scenario) if cell.server == server]
        return sorted((cell for cell in cells if cell.phase.load is not None), key=lambda cell: cell.phase.load or 0.0)

    def closed(self, scenario: str) -> list[Cell]:
        """Return every server's closed loop, all over the same number of connections: 64 if there is such a run."""
        cells = [cell for cell in self.of_scenario(scenario) if cell.phase.load is None]
        connections = [cell.phase.connections for cell in cells]
        main = MAIN_CONNECTIONS if MAIN_CONNECTIONS in connections else next(iter(connections), 0)
        return [cell for cell in cells if cell.phase.connections == main]

    def beside_rivals(self) -> list[str]:
        """Return the scenarios that Penstock and others ran."""
        return [name for name in self.scenarios if len({server.target for server in self.servers(name)}) > 1]


def scenario_title(name: str) -> str:
    """Return the title that its file gives a scenario; its name when there is no such file."""
    return load_scenario(name).title if name in scenario_names() else name


def _typed(entry: type[Entry], found: Iterable[Any]) -> list[Entry]:
    return [each if isinstance(each, entry) else msgspec.convert(each, entry) for each in found]


def _cells(samples: Iterable[Sample]) -> tuple[Cell, ...]:
    grouped: dict[tuple[str, Server, Phase], list[Sample]] = {}
    for sample in samples:
        server = Server(sample.target, sample.dialect)
        grouped.setdefault((sample.scenario, server, sample.phase), []).append(sample)
    order = {key[:2]: number for number, key in reversed(list(enumerate(grouped)))}
    cells = [Cell(*key, tuple(rounds)) for key, rounds in grouped.items()]
    return tuple(sorted(cells, key=lambda cell: (order[cell.scenario, cell.server], cell.phase.load or 0.0)))
