"""What rivals that are Python packages have in common: an environment, one process tree, one port, counted models."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.peers.environment import Process, answers, free_port, install, read_batches, versions
from bench.peers.plain import PlainJson
from bench.targets import Batches
from penstock.load.dialects import Dialect

__all__ = ["PackageTarget", "Place", "RunningPackage"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rival is started: its interpreter, the port it must take, a folder of its own, the models."""

    python: Path
    port: int
    folder: Path
    models: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class RunningPackage:
    """A rival that answers on `address`."""

    pid: int
    address: str
    dialect: Dialect
    counts: Mapping[str, Path]

    def batches(self, model: str) -> Batches | None:
        """Count inside the predictor."""
        return read_batches(self.counts[model])


class PackageTarget(ABC):
    """A rival that pip installs; a subclass says how it is started and asked.

    Its folder holds requirements.txt. Its process finds the models and the files to count into in the variable
    RIVAL_MODELS, which bench/peers/inside/given.py reads.
    """

    name: ClassVar[str]
    folder: ClassVar[Path]
    packages: ClassVar[tuple[str, ...]]
    ready_path: ClassVar[str] = "/ready"
    dialect: ClassVar[Dialect] = PlainJson()

    def __init__(self) -> None:
        self._python: Path | None = None

    def install(self, environments: Path) -> Mapping[str, str]:
        """Make the environment, once."""
        self._python = self.make_environment(environments)
        return versions(self._python, (*self.packages, "onnxruntime", "numpy"))

    def make_environment(self, environments: Path) -> Path:
        """Install what the rival needs; its interpreter. NotInstalledError if that is impossible."""
        return install(self.name, environments, self.folder / "requirements.txt")

    @abstractmethod
    def command(self, place: Place) -> Sequence[str]:
        """Write what the server needs into the place's folder; the command that starts it."""

    def variables(self, place: Place) -> Mapping[str, str]:
        """Return environment variables beside RIVAL_MODELS."""
        return {}

    def ready(self, place: Place) -> bool:
        """Tell whether the server answers."""
        return answers(place.port, self.ready_path)

    @contextmanager
    def serve(self, models: Mapping[str, Path], folder: Path) -> Iterator[RunningPackage]:
        """Run the server until the block ends; RuntimeError with its log if it does not get ready."""
        if self._python is None:
            raise RuntimeError(f"{self.name} is not installed")
        folder = folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        place = Place(self._python, free_port(), folder, {name: path.resolve() for name, path in models.items()})
        counts = {name: folder / f"{name}.counts" for name in models}
        given = {name: {"path": str(path), "counts": str(counts[name])} for name, path in place.models.items()}
        variables = {"RIVAL_MODELS": json.dumps(given), **self.variables(place)}
        with Process(self.command(place), folder, variables, self.name) as process:
            process.wait_for(lambda: self.ready(place))
            yield RunningPackage(process.pid, f"127.0.0.1:{place.port}", self.dialect, counts)
