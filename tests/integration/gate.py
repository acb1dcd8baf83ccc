"""A Python model that stops where a test wants it to, and goes on when the test says so."""

import os
import select
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Gate"]

DEADLINE_SECONDS = 300.0

SOURCE = '''\
"""Twice the input. A row that starts with HOLD waits for the test, one that starts with POISON kills the worker."""

import os

from penstock.worker import Tensor

HOLD, POISON, RAISE, EXIT = {hold}, {poison}, {raises}, {exits}


class Model:
    inputs = {{"x": Tensor("float32", ({width},))}}
    outputs = {{"y": Tensor("float32", ({width},))}}

    def predict(self, batch):
        first = batch["x"][:, 0]
        if (first == HOLD).any():
            with open({reached!r}, "wb", buffering=0) as reached, open({opened!r}, "rb", buffering=0) as opened:
                reached.write(b".")
                opened.read(1)
        if (first == POISON).any():
            os._exit(3)
        if (first == RAISE).any():
            raise ValueError("the row is not to this model's taste")
        if (first == EXIT).any():
            raise SystemExit(4)
        return {{"y": batch["x"] * 2}}
'''


@dataclass(frozen=True, slots=True)
class Gate:
    """Two named pipes between a test and a model. Rows that start with one of the constants get special treatment."""

    HOLD = 1001.0
    POISON = 1002.0
    RAISE = 1003.0
    EXIT = 1004.0

    path: Path
    reached: int
    opened: int

    @classmethod
    def make(cls, folder: Path, width: int = 4, name: str = "gated") -> Self:
        """Write the model as NAME.py; rows are `width` numbers of float32."""
        pipes = [folder / f"{name}.reached", folder / f"{name}.opened"]
        for pipe in pipes:
            os.mkfifo(pipe)
        path = folder / f"{name}.py"
        constants = {"hold": cls.HOLD, "poison": cls.POISON, "raises": cls.RAISE, "exits": cls.EXIT}
        path.write_text(SOURCE.format(**constants, width=width, reached=str(pipes[0]), opened=str(pipes[1])))
        # Opened for both directions, so that neither side's open() waits for the other.
        return cls(path, *(os.open(pipe, os.O_RDWR | os.O_CLOEXEC) for pipe in pipes))

    def wait_until_reached(self) -> None:
        """Wait until a batch stands before the gate."""
        readable, _, _ = select.select([self.reached], [], [], DEADLINE_SECONDS)
        assert readable, "no batch has reached the model"
        os.read(self.reached, 1)

    def was_reached(self) -> bool:
        """Tell whether a batch stands before the gate."""
        readable, _, _ = select.select([self.reached], [], [], 0)
        return bool(readable and os.read(self.reached, 1))

    def open(self, batches: int = 1) -> None:
        """Let this many batches pass, those that come later included."""
        os.write(self.opened, b"." * batches)

    def close(self) -> None:
        """Close the test's ends."""
        os.close(self.reached)
        os.close(self.opened)
