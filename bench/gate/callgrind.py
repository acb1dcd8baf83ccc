"""Instruction counts of the replay's stages, by valgrind's callgrind.

A stage is a function named stage_*; its count is inclusive, of all its calls. Counts do not depend on what else the
machine does, but on the compiler, the C library and the processor's features that both choose code by.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.gate.revisions import Tree

__all__ = ["CountingError", "Counts", "count", "stage_costs", "toolchain"]

# Instructions a request, by case and stage.
Counts = dict[str, dict[str, float]]

BATCHES = 64  # of each case: beyond that the counts of a request move by less than 0.1 %
# Nothing of the caller's environment: it lies on the stack and moves what lies below it. Symbols are bound at the
# start, not at the first call within a stage.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LD_BIND_NOW": "1"}

FUNCTION = re.compile(r"(c?fn)=(\(\d+\))(?: (.*))?")
COST = re.compile(r"(?:[+-]?\d+|\*) (\d+)")
# Parts that the compiler split off are called by the rest, whose inclusive cost has theirs.
STAGE = re.compile(r"\bstage_(\w+)\((?!.* \[clone \.(?:part|cold))")


class CountingError(Exception):
    """Nothing can be counted; the text is for people."""


def count(tree: Tree) -> Counts:
    """Replay every case under callgrind; CountingError when that is impossible here."""
    if shutil.which("valgrind") is None:
        raise CountingError("valgrind is not installed: apt-get install valgrind")
    folder = tree.binaries / "bench"
    cases = _output(["./replay", "--cases"], folder).split()
    with ThreadPoolExecutor() as pool:
        return dict(zip(cases, pool.map(lambda case: _count_case(folder, case), cases), strict=True))


def stage_costs(lines: Iterable[str]) -> dict[str, int]:
    """Sum the inclusive cost of each stage in a callgrind.out file.

    Format: valgrind's manual, "Callgrind Format Specification". A function's block holds its own costs and, after each
    "calls=" line, the inclusive cost of those calls, so that the sum of a block is inclusive.
    """
    names: dict[str, str] = {}
    costs: defaultdict[str, int] = defaultdict(int)
    stage: str | None = None
    for line in lines:
        text = line.rstrip("\n")
        if function := FUNCTION.fullmatch(text):
            kind, number, name = function.groups()
            if name is not None:
                names[number] = name
            if kind == "fn":
                found = STAGE.search(names[number])
                stage = found[1] if found else None
        elif stage is not None and (cost := COST.fullmatch(text)):
            costs[stage] += int(cost[1])
    return dict(costs)


def toolchain(tree: Tree) -> dict[str, str]:
    """Name what the counts depend on besides the sources."""
    cache = (tree.binaries / "CMakeCache.txt").read_text()
    compiler = re.search(r"^CMAKE_CXX_COMPILER:\w+=(.+)$", cache, re.MULTILINE)
    if compiler is None:
        raise CountingError(f"{tree.binaries} was not configured")
    flags = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    features = [flag for flag in ("avx2", "bmi2", "erms", "fsrm") if flags and flag in flags[1].split()]
    return {
        "compiler": _output([compiler[1], "--version"], tree.binaries).splitlines()[0],
        "libc": " ".join(platform.libc_ver()),
        "processor": " ".join([platform.machine(), *features]),
    }


def _count_case(folder: Path, case: str) -> dict[str, float]:
    # The program is called by the same name in every tree: the name, too, lies on the stack.
    with tempfile.TemporaryDirectory(prefix="penstock-callgrind-") as scratch:
        out = Path(scratch) / "callgrind.out"
        counted = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "./replay"]
        requests = int(_output([*counted, "--case", case, "--batches", str(BATCHES)], folder))
        with out.open() as lines:
            costs = stage_costs(lines)
    if not costs:
        raise CountingError("callgrind saw no stage: was the replay stripped of its symbols?")
    return {stage: round(cost / requests, 1) for stage, cost in sorted(costs.items())}


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CountingError(f"{' '.join(command)} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
