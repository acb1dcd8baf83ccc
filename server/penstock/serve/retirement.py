"""How a model version leaves memory: it answers what it has, its workers end, its ring is given back."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from penstock.serve.rings import Rings
from penstock.serve.worker_group import WorkerGroup

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["Retirement"]

logger = logging.getLogger("penstock.supervisor")

# Nothing tells when the last row of a ring has been answered, or the last loop has let go of it.
LOOK_SECONDS = 0.01
# After which the workers end; rows that are still out get an error.
DRAIN_SECONDS = 60.0


class Retirement:
    """The groups on their way out, and rings that were replaced. Used by the supervisor's thread."""

    def __init__(self, engine: Engine, rings: Rings) -> None:
        self._engine = engine
        self._rings = rings
        self._draining: dict[WorkerGroup, float] = {}  # and until when
        self._ending: list[WorkerGroup] = []
        self._waiting: dict[WorkerGroup, list[Future[None]]] = {}
        self.due: float | None = None  # monotonic: when to look again

    def begin(self, group: WorkerGroup, done: Future[None] | None = None) -> None:
        """Let a group go; the next routes published must not lead to it."""
        if not group.retiring:
            group.retiring = True
            self._draining[group] = time.monotonic() + DRAIN_SECONDS
        if done is not None:
            self._waiting.setdefault(group, []).append(done)
        self.due = time.monotonic()

    def drained(self) -> list[WorkerGroup]:
        """Return the groups that hold no row any more, each once: their workers are to end."""
        if self.due is None or self.due > time.monotonic():
            return []
        found = [group for group, until in self._draining.items() if self._is_drained(group, until)]
        for group in found:
            del self._draining[group]
            self._ending.append(group)
        return found

    def finish(self) -> list[WorkerGroup]:
        """Return the groups of which nothing is left."""
        if self._rings.replaced:
            self._rings.replaced = [ring for ring in self._rings.replaced if not self._is_gone(ring)]
        gone = [group for group in self._ending if self._is_over(group)]
        for group in gone:
            self._ending.remove(group)
            for done in self._waiting.pop(group, ()):
                done.set_result(None)
        busy = self._draining or self._ending or self._rings.replaced
        self.due = time.monotonic() + LOOK_SECONDS if busy else None
        return gone

    def abandon(self) -> None:
        """Tell whoever waits that the server has stopped."""
        for waiting in self._waiting.values():
            for done in waiting:
                done.set_result(None)
        self._waiting.clear()

    def _is_drained(self, group: WorkerGroup, until: float) -> bool:
        if all(model.ring is None or self._engine.ring_idle(model.ring) for model in group.models):
            return True
        if time.monotonic() < until:
            return False
        logger.warning("a model is unloaded with rows that nobody has answered", extra=group.models[0].facts())
        return True

    def _is_over(self, group: WorkerGroup) -> bool:
        if any(instance.process is not None for instance in group.processes):
            return False
        for model in group.models:
            if model.ring is None:
                continue
            if not self._engine.ring_idle(model.ring):
                self._engine.close_ring(model.ring)  # nobody is left to run its rows, which would keep it for ever
            if self._is_gone(model.ring):
                model.ring = None
        return all(model.ring is None for model in group.models)

    def _is_gone(self, ring: int) -> bool:
        try:
            return self._engine.remove_ring(ring)
        except ValueError:
            return True  # of a group, whose workers sleep in one of its rings: it stays until the end
