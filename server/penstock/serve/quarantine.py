"""The workers that run what has killed others: when they are started, and when they end."""

from __future__ import annotations

import logging
import time

from penstock.serve.rings import Rings
from penstock.serve.worker_group import Instance, Phase, RestartPolicy, WorkerGroup
from penstock.serve.worker_life import WorkerLife, back_off, let_finish

__all__ = ["Quarantine"]

logger = logging.getLogger("penstock.supervisor")

# How often the supervisor looks whether a worker in quarantine is still needed, of which nothing tells it.
LOOK_SECONDS = 0.1
# How long one that is not may take to end: it holds no batch.
STOP_SECONDS = 5.0
# How often one may fail to start, for want of memory, say.
STARTS_MAX = 3


class Quarantine:
    """Starts and stops workers in quarantine. Used by the supervisor's thread."""

    def __init__(self, rings: Rings, life: WorkerLife, policy: RestartPolicy) -> None:
        self._rings = rings
        self._life = life
        self._policy = policy

    def after_death(self, instance: Instance) -> None:
        """Decide what follows: dying is what such a worker is for, so it counts against nobody, and it starts at once.

        Only one that died before it was ready has found no culprit, and must not be started over and over.
        """
        if instance.phase is Phase.READY:
            instance.phase, instance.due, instance.delay_s = Phase.STOPPED, None, 0.0
            instance.restarts = 0
        elif instance.restarts < STARTS_MAX:
            instance.restarts += 1
            back_off(instance, self._policy, instance.delay_s)
        else:
            # Its blocks would stop the queues that they stand in, lap after lap.
            logger.error("no quarantine: its rows fail", extra=instance.facts(reason=instance.last_words))
            for model in instance.models:
                self._rings.fail_quarantined(model)
            instance.phase, instance.due, instance.restarts = Phase.STOPPED, None, 0

    def mind(self, group: WorkerGroup) -> None:
        """Start workers for models that need one, stop those of models that need none any more."""
        for model, instance in zip(group.models, group.quarantine, strict=True):
            needed = self._rings.quarantined(model)
            if needed and instance.phase is Phase.STOPPED:
                self._life.start(group, instance)
            elif needed and instance.phase is Phase.READY:
                instance.due = time.monotonic() + LOOK_SECONDS
            elif instance.phase is Phase.READY and instance.process is not None:
                let_finish(instance, instance.process, STOP_SECONDS)
            elif not needed and instance.phase is Phase.BACKING_OFF:
                instance.phase, instance.due = Phase.STOPPED, None
