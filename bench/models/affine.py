"""A simulated device: a plain Python model that is busy for a + c * b with a batch of b rows, and answers x * 2 + 1.

What a policy can reach with such a device is known in closed form (docs/benchmarking.md), so a server that falls short
of it is at fault itself. The device sleeps for most of the time, as the thread of a process does that waits for an
accelerator, and spins at the end, since a sleeper is woken tens of microseconds late.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from penstock.load.rows import Row

__all__ = ["AFFINE_WIDTH", "affine_answers", "write_affine"]

AFFINE_WIDTH = 8

MODEL = '''\
"""A device that is busy for {a_us:g} us and {c_us:g} us a row; 2 x + 1."""

import ctypes
import time

from penstock.worker import Tensor

A_NS = {a_us} * 1e3
C_NS = {c_us} * 1e3
SPIN_NS = 200_000
PR_SET_TIMERSLACK = 29


class Model:
    inputs = {{"x": Tensor("float32", ({width},))}}
    outputs = {{"y": Tensor("float32", ({width},))}}

    def load(self):
        # A sleeping thread is otherwise woken up to 50 us late.
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)

    def predict(self, batch):
        clock = time.perf_counter_ns
        began = clock()
        x = batch["x"]
        until = began + A_NS + C_NS * len(x)
        y = x * 2 + 1
        if (left := until - clock() - SPIN_NS) > 0:
            time.sleep(left / 1e9)
        while clock() < until:
            pass
        return {{"y": y}}
'''


def write_affine(path: Path, a_us: float, c_us: float) -> Path:
    """Write the model's file; its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(MODEL.format(a_us=a_us, c_us=c_us, width=AFFINE_WIDTH))
    return path


def affine_answers(rows: Sequence[Row]) -> list[Row]:
    """Answer as the model does."""
    return [{"y": np.asarray(row["x"] * 2 + 1)} for row in rows]
