"""Revisions of Penstock, checked out and built side by side below build/gate/.

A commit gets a worktree of its own, `build/gate/<hash>`, and is built there once. "WORKTREE" (or ".") stands for the
working tree as it is: its Python sources are copied when it is built, so that editing goes on while the gate runs.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

__all__ = [
    "REPOSITORY",
    "WORKTREE",
    "Product",
    "Revision",
    "RevisionError",
    "Tree",
    "build",
    "find_revision",
    "last_change",
]

REPOSITORY = Path(__file__).resolve().parents[2]
WORKTREE = "WORKTREE"


class RevisionError(Exception):
    """A revision cannot be found or built; the text is for people."""


class Product(Enum):
    """What is built of a tree: CMake's options, and the targets."""

    MODULES = ("modules", ("-DPENSTOCK_TESTS=OFF", "-DPENSTOCK_MODULES=ON"), ("all",))
    REPLAY = ("replay", ("-DPENSTOCK_TESTS=ON", "-DPENSTOCK_MODULES=OFF"), ("replay",))
    # In the folder of the replay: what both are made of is compiled once.
    MICRO = (
        "replay",
        ("-DPENSTOCK_TESTS=ON", "-DPENSTOCK_MODULES=OFF"),
        ("kernels_bench", "ring_bench", "scheduler_bench", "http_bench", "codec_bench", "record_bench", "cache_bench"),
    )

    def __init__(self, folder: str, options: tuple[str, ...], targets: tuple[str, ...]) -> None:
        self.folder = folder
        self.options = options
        self.targets = targets


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit by its full hash, or the working tree."""

    name: str
    hash: str | None

    def __str__(self) -> str:
        """As people say it."""
        return f"{self.name} ({self.hash[:10]})" if self.hash else "the working tree"

    @property
    def folder(self) -> Path:
        """Where what is made of it lies."""
        return REPOSITORY / "build" / "gate" / (self.hash or "worktree")


@dataclass(frozen=True, slots=True)
class Tree:
    """A revision that was built. `server` goes on PYTHONPATH; `binaries` is CMake's folder."""

    revision: Revision
    server: Path
    binaries: Path


def find_revision(name: str) -> Revision:
    """Look a name up; RevisionError when git does not know it."""
    if name in (WORKTREE, "."):
        return Revision(name, None)
    found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if found.returncode != 0:
        shallow = _git("rev-parse", "--is-shallow-repository").stdout.strip() == "true"
        hint = "; the clone is shallow: git fetch --unshallow" if shallow else ""
        raise RevisionError(f"'{name}' is no revision that git knows here{hint}")
    return Revision(name, found.stdout.strip())


def last_change(path: Path) -> Revision:
    """Return the commit that last changed a file; RevisionError when the history does not reach back to it."""
    if _git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
        raise RevisionError(f"the clone is shallow: the commit of {path.name} is unknown; git fetch --unshallow")
    found = _git("log", "-1", "--format=%H", "--", str(path)).stdout.strip()
    if not found:
        raise RevisionError(f"{path.name} was never committed")
    return Revision(f"the commit of {path.name}", found)


def build(revision: Revision, product: Product) -> Tree:
    """Check a revision out and build it, unless that was done before; RevisionError with the end of the log if not."""
    with _turn():
        source = REPOSITORY if revision.hash is None else _check_out(revision)
        if product is Product.REPLAY and not (source / "bench" / "replay").is_dir():
            raise RevisionError(f"{revision} has no bench/replay: there is nothing to count in it")
        return _build(revision, product, source)


@contextmanager
def _turn() -> Iterator[None]:
    """Wait until nobody else builds, the Makefile included."""
    folder = REPOSITORY / "build"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _binaries(revision: Revision, product: Product) -> Path:
    """Where it is built: programs of the working tree in build/release, if that is there; its options are the same."""
    release = REPOSITORY / "build" / "release"
    if revision.hash is None and product is not Product.MODULES and (release / "build.ninja").exists():
        return release
    return revision.folder / "build" / product.folder


def _build(revision: Revision, product: Product, source: Path) -> Tree:
    binaries = _binaries(revision, product)
    if not (binaries / "build.ninja").exists():
        python = f"-DPython_EXECUTABLE={sys.executable}"
        tools = [f"-DCMAKE_MAKE_PROGRAM={_tool('ninja')}", python, "-DPENSTOCK_WERROR=OFF"]
        _run(revision, [_tool("cmake"), "--preset", "release", "-B", str(binaries), *tools, *product.options], source)
    _run(revision, [_tool("cmake"), "--build", str(binaries), "--target", *product.targets], source)
    server = source / "server"
    if product is Product.MODULES:
        if revision.hash is None:
            server = _copy_python(revision)
        install = [_tool("cmake"), "--install", str(binaries), "--component", "modules", "--prefix", str(server)]
        _run(revision, install, source)
    return Tree(revision, server, binaries)


def _check_out(revision: Revision) -> Path:
    assert revision.hash is not None
    folder = revision.folder
    if (folder / ".git").exists():
        return folder
    _git("worktree", "prune")  # `make clean` removes trees without git's knowledge
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    added = _git("worktree", "add", "--detach", str(folder), revision.hash)
    if added.returncode != 0:
        raise RevisionError(f"{revision} cannot be checked out: {added.stderr.strip()}")
    return folder


def _copy_python(revision: Revision) -> Path:
    server = revision.folder / "server"
    shutil.rmtree(server, ignore_errors=True)
    leave_out = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info", "*.cpp", "*.hpp")
    shutil.copytree(REPOSITORY / "server", server, ignore=leave_out)
    return server


def _tool(name: str) -> str:
    """Find a program of the environment that runs this, or of the machine."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RevisionError(f"{name} is not installed: make setup")
    return found


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, check=False)


def _run(revision: Revision, command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise RevisionError(f"{revision} does not build: {' '.join(command[:3])} failed:\n{done.stdout[-4000:]}")
