"""A Python model that notes each row that it runs, and how a test asks it."""

import json
from pathlib import Path
from typing import Any

from bench.wire import Reply, Wire
from tests.serving import Server

__all__ = ["RECEIPT", "Noting", "answer", "ask", "cache_of"]

RECEIPT = {"X-Penstock-Receipt": "true"}

# Three times the input, or what FACTOR says. What it runs is a line of the file RUNS.
NOTING = """\
from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32", (4,))}}
    outputs = {{"y": Tensor("float32", (4,))}}

    def predict(self, batch):
        with open({runs!r}, "a") as runs:
            runs.writelines(f"{{row[0]:g}}\\n" for row in batch["x"])
        if (batch["x"][:, 0] < 0).any():
            raise ValueError("below zero")
        return {{"y": batch["x"] * {factor}}}
"""


class Noting:
    """A model of this kind, and what it has run since it was served."""

    def __init__(self, folder: Path, name: str = "m", factor: int = 3, *, runs: Path | None = None) -> None:
        """`runs`: a file for what it runs, elsewhere than beside the model."""
        self._runs = runs or folder / f"{name}.runs"
        self._runs.touch()
        self._before = 0
        self.path = folder / f"{name}.py"
        self.path.write_text(NOTING.format(runs=str(self._runs), factor=factor))

    def forget(self) -> None:
        """Leave the warm-up out."""
        self._before = len(self._runs.read_text().splitlines())

    def runs(self) -> list[str]:
        return self._runs.read_text().splitlines()[self._before :]


def ask(wire: Wire, first: float, **headers: str) -> Reply:
    fields = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    return wire.ask("POST", "/predict", json.dumps({"inputs": [first, 0, 0, 0]}).encode(), fields)


def answer(reply: Reply) -> float:
    assert reply.status == 200, reply.body
    return float(reply.json()["outputs"]["y"][0])


def cache_of(server: Server) -> dict[str, Any]:
    (version,) = server.request("GET", "/models/m").json()["versions"]
    found: dict[str, Any] = version["cache"]
    return found
