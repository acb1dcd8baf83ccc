"""Keeps the workers of all models alive, on one plain thread.

The thread waits on pidfds and control sockets, starts again what has died, and tells the engine which rings and routes
there are. Everyone else gets an immutable snapshot of what it knows.
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.core.config import ModelConfig, Scheduling
from penstock.core.errors import ModelLoadError, StartError
from penstock.core.status import ModelStatus
from penstock.serve.rings import Rings
from penstock.serve.worker_group import Instance, Phase, RestartPolicy, WorkerGroup, make_groups
from penstock.serve.worker_life import WorkerLife
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.fault import without_paths
from penstock.worker.messages import Stop

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["Supervisor"]

logger = logging.getLogger("penstock.supervisor")

# How often the supervisor looks whether a worker in quarantine is still needed, of which nothing tells it.
QUARANTINE_LOOK_SECONDS = 0.1
# How long one that is not may take to end: it holds no batch.
QUARANTINE_STOP_SECONDS = 5.0
# How often one may fail to start, for want of memory, say.
QUARANTINE_STARTS_MAX = 3


class Supervisor:
    """Starts, watches and stops the workers of a fixed set of models.

    start(), wait_ready() and stop() are called by one thread; models() by any.
    """

    def __init__(
        self,
        engine: Engine,
        models: Sequence[ModelConfig],
        policy: RestartPolicy | None = None,
        scheduling: Scheduling = Scheduling.DEADLINE,
    ) -> None:
        self._engine = engine
        self._policy = policy or RestartPolicy()
        self._scheduling = scheduling
        self._groups = make_groups(models)
        self._order = {(config.name, config.version): place for place, config in enumerate(models)}
        self._rings = Rings(engine)
        self._life: WorkerLife
        self._selector: selectors.BaseSelector
        self._wake: int
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()  # all models are ready, or one cannot be
        self._failure: ModelLoadError | None = None
        self._ready = False
        self._grace_s: float | None = None  # set by stop()
        self._stopping = False
        self._snapshot: tuple[ModelStatus, ...] = ()
        self._take_snapshot()

    def start(self) -> None:
        """Start the thread, which starts the workers."""
        self._selector = selectors.DefaultSelector()
        self._life = WorkerLife(self._rings, self._selector, self._scheduling, self)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        self._thread = threading.Thread(target=self._supervise, name="penstock-supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until every model is ready; ModelLoadError for one that cannot be, StartError after `timeout_s`."""
        if not self._settled.wait(timeout_s):
            raise StartError(f"the models are not ready after {timeout_s} s")
        if self._failure is not None:
            raise self._failure

    def models(self) -> list[ModelStatus]:
        """Return what is known of each model version at this moment."""
        return list(self._snapshot)

    def stop(self, grace_s: float = 10.0) -> None:
        """Let the workers finish their batches, kill those that have not after `grace_s`, and end the thread."""
        if self._thread is None:
            return
        self._grace_s = grace_s
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._thread = None
        self._selector.close()
        os.close(self._wake)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        try:
            for group in self._groups:
                for instance in group.instances:
                    self._life.start(group, instance)
            self._announce()
            while not (self._stopping and all(instance.process is None for _, instance in self._instances())):
                for key, _ in self._selector.select(self._seconds_to_next_due()):
                    key.data()
                self._act_on_due()
        except Exception as error:
            # A fault of ours. This thread's end kills the workers, so nobody may believe that they are served.
            logger.exception("the supervisor failed")
            self._engine.set_ready(False)
            self._abandon_workers()
            self._fail_start(ModelLoadError(f"the supervisor failed: {type(error).__name__}"))
        finally:
            self._settled.set()

    def _abandon_workers(self) -> None:
        for _, instance in self._instances():
            if instance.process is not None:
                instance.process.kill()
                instance.process.reap()
                instance.process = None

    def _instances(self) -> list[tuple[WorkerGroup, Instance]]:
        return [(group, instance) for group in self._groups for instance in group.processes]

    def _seconds_to_next_due(self) -> float | None:
        dues = [instance.due for _, instance in self._instances() if instance.due is not None]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _on_wake(self) -> None:
        os.eventfd_read(self._wake)
        if self._grace_s is None or self._stopping:
            return
        self._stopping = True
        for _, instance in self._instances():
            if instance.process is None:
                instance.phase, instance.due = Phase.STOPPED, None
                continue
            if instance.phase is not Phase.READY:
                instance.process.kill()  # it holds no batch
            self._let_finish(instance, instance.process, self._grace_s)
        self._take_snapshot()

    def _let_finish(self, instance: Instance, process: WorkerProcess, grace_s: float) -> None:
        process.send(Stop())
        instance.phase = Phase.STOPPING
        instance.due = time.monotonic() + grace_s
        instance.lateness = "it had not finished when it had to stop"

    def _act_on_due(self) -> None:
        now = time.monotonic()
        for group, instance in self._instances():
            if instance.due is None or instance.due > now:
                continue
            instance.due = None
            if instance.phase is Phase.BACKING_OFF:
                instance.restarts += not instance.quarantine
                self._life.start(group, instance)
                self._take_snapshot()
            elif instance.process is None:
                continue
            elif instance.quarantine and instance.phase is Phase.READY and not instance.process.hung_up:
                self._mind_quarantine(group)
            else:
                instance.last_words = instance.lateness
                instance.process.kill()

    # --- what follows from a worker's life ----------------------------------------------------------------------------

    def on_change(self) -> None:
        """See Decisions."""
        self._take_snapshot()

    def on_ready(self, group: WorkerGroup, instance: Instance) -> None:
        """See Decisions."""
        if not instance.quarantine:
            # A failed group is tried again: its next death without a completed batch makes it a failed one at once.
            group.failed = False
            for model in group.models:
                model.detail = None
        self._mind_quarantine(group)
        self._announce()

    def on_stopped(self, group: WorkerGroup, instance: Instance) -> None:
        """See Decisions."""
        self._mind_quarantine(group)
        self._take_snapshot()

    def on_death(self, group: WorkerGroup, instance: Instance, completed_a_batch: bool) -> None:
        """See Decisions."""
        if instance.quarantine:
            self._after_quarantine(instance)
        elif not instance.was_ready and not self._settled.is_set():
            # A model that cannot be loaded at start stops the start: its operator is there to mend it.
            instance.phase, instance.due = Phase.STOPPED, None
            group.failed = True
            self._explain(group, instance)
            self._fail_start(ModelLoadError(f"{group.label}: {instance.last_words}"))
        else:
            group.count_death(completed_a_batch, self._policy)
            self._explain(group, instance)
            self._back_off(instance, 0.0 if completed_a_batch else instance.delay_s)
        self._mind_quarantine(group)
        self._announce()

    def _explain(self, group: WorkerGroup, instance: Instance) -> None:
        for model in group.models:
            model.detail = without_paths(instance.last_words or "")

    def _back_off(self, instance: Instance, last_delay_s: float) -> None:
        instance.delay_s = self._policy.delay_after(last_delay_s)
        instance.phase = Phase.BACKING_OFF
        instance.due = time.monotonic() + instance.delay_s
        logger.info("worker restarts", extra=instance.facts(delay_s=instance.delay_s))

    # --- quarantine ---------------------------------------------------------------------------------------------------

    def _after_quarantine(self, instance: Instance) -> None:
        """Dying is what a worker in quarantine is for: it counts against nobody, and its successor starts at once.

        Only one that died before it was ready has found no culprit, and must not be started over and over.
        """
        if instance.phase is Phase.READY:
            instance.phase, instance.due, instance.delay_s = Phase.STOPPED, None, 0.0
            instance.restarts = 0
        elif instance.restarts < QUARANTINE_STARTS_MAX:
            instance.restarts += 1
            self._back_off(instance, instance.delay_s)
        else:
            # Its blocks would stop the queues that they stand in, lap after lap.
            logger.error("no quarantine: its rows fail", extra=instance.facts(reason=instance.last_words))
            for model in instance.models:
                self._rings.fail_quarantined(model)
            instance.phase, instance.due, instance.restarts = Phase.STOPPED, None, 0

    def _mind_quarantine(self, group: WorkerGroup) -> None:
        """Start workers in quarantine for models that need one, stop those of models that need none any more."""
        if self._stopping:
            return
        for model, instance in zip(group.models, group.quarantine, strict=True):
            needed = self._rings.quarantined(model)
            if needed and instance.phase is Phase.STOPPED:
                self._life.start(group, instance)
            elif needed and instance.phase is Phase.READY:
                instance.due = time.monotonic() + QUARANTINE_LOOK_SECONDS
            elif instance.phase is Phase.READY and instance.process is not None:
                self._let_finish(instance, instance.process, QUARANTINE_STOP_SECONDS)
            elif not needed and instance.phase is Phase.BACKING_OFF:
                instance.phase, instance.due = Phase.STOPPED, None

    # --- what others are told -----------------------------------------------------------------------------------------

    def _fail_start(self, failure: ModelLoadError) -> None:
        self._failure = self._failure or failure
        self._settled.set()

    def _announce(self) -> None:
        """Derive routes, readiness and the snapshot from the groups' states."""
        models = [(group, model) for group in self._groups for model in group.models]
        for group, model in models:
            self._rings.tell_workers(model, group.workers_ready)
        self._engine.publish(
            [
                (model.config.name, model.config.version, model.ring, model.latest, group.available(model))
                for group, model in models
                if group.served and model.ring is not None
            ]
        )
        ready = all(group.started and not group.failed for group in self._groups)
        if ready != self._ready:
            self._ready = ready
            self._engine.set_ready(ready)
        self._take_snapshot()
        if ready:
            self._settled.set()

    def _take_snapshot(self) -> None:
        statuses = [status for group in self._groups for status in group.statuses()]
        self._snapshot = tuple(sorted(statuses, key=lambda s: self._order[s.config.name, s.config.version]))
