"""Results as files: what was run, on what, and every sample, as JSON that the report and other programs read."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.placement import placement
from penstock.load.machine import Machine, machine

__all__ = ["RESULTS", "Results", "read_results", "revision"]

RESULTS = Path(__file__).parent / "results"
FORMAT = 2


@dataclass(slots=True)
class Results:
    """One run of the benchmarks. Lists grow while it goes on; their entries are dataclasses, or dicts once read back.

    samples: bench.run.Sample. capacities: bench.capacity.Capacity. bare: bench.bare.BareResult.
    verdicts: bench.verdicts.Verdict. swaps: bench.swaps.SwapResult. not_run: what could not be run, and why.
    """

    command: str
    samples: list[Any] = field(default_factory=list)
    capacities: list[Any] = field(default_factory=list)
    bare: list[Any] = field(default_factory=list)
    verdicts: list[Any] = field(default_factory=list)
    swaps: list[Any] = field(default_factory=list)
    stages: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Mapping[str, str]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    machine: Machine = field(default_factory=machine)
    revision: str = field(default_factory=lambda: revision())
    placement: str = field(default_factory=lambda: placement())
    date: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M"))
    format: int = FORMAT

    def save(self, path: Path | None = None) -> Path:
        """Write everything; below bench/results/ unless a path is given."""
        if path is None:
            name = next(word for word in self.command.split() if not word.startswith("-"))
            path = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return path


def read_results(paths: Sequence[Path]) -> list[Results]:
    """Read results back; ValueError for a file of another format."""
    found = []
    for path in paths:
        document = json.loads(path.read_text())
        if document.get("format") != FORMAT:
            raise ValueError(f"{path} is not a result of format {FORMAT}")
        document["machine"] = Machine(**document["machine"])
        found.append(Results(**document))
    return found


def revision() -> str:
    """Return the commit of the working tree, with a + when it was changed."""
    commit = _git("rev-parse", "HEAD")
    return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False).stdout.strip()
