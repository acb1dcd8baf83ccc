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
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from penstock.core.config import ModelConfig
from penstock.core.errors import ModelLoadError, StartError
from penstock.core.status import ModelStatus
from penstock.serve.model_workers import Instance, ModelWorkers, Phase, RestartPolicy, latest_versions
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.fault import without_paths
from penstock.worker.protocol import Attach, Failed, Loaded, Message, ProtocolError, Ready, Stop

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["Supervisor"]

logger = logging.getLogger("penstock.supervisor")

# How long a worker may live on after it has closed its control socket.
HANG_UP_SECONDS = 1.0


class Supervisor:
    """Starts, watches and stops the workers of a fixed set of models.

    start(), wait_ready() and stop() are called by one thread; models() by any.
    """

    def __init__(self, engine: Engine, models: Sequence[ModelConfig], policy: RestartPolicy | None = None) -> None:
        latest = latest_versions(models)
        self._engine = engine
        self._policy = policy or RestartPolicy()
        self._models = tuple(
            ModelWorkers(config, latest[config.name] == config.version, tuple(map(Instance, range(config.instances))))
            for config in models
        )
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
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch(self._wake, self._on_wake)
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
            for model in self._models:
                for instance in model.instances:
                    self._start_worker(model, instance)
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

    def _instances(self) -> list[tuple[ModelWorkers, Instance]]:
        return [(model, instance) for model in self._models for instance in model.instances]

    def _seconds_to_next_due(self) -> float | None:
        dues = [instance.due for _, instance in self._instances() if instance.due is not None]
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _on_wake(self) -> None:
        os.eventfd_read(self._wake)
        if self._grace_s is None or self._stopping:
            return
        self._stopping = True
        deadline = time.monotonic() + self._grace_s
        for _, instance in self._instances():
            if instance.process is None:
                instance.phase = Phase.STOPPED
                instance.due = None
                continue
            if instance.phase is Phase.READY:
                instance.process.send(Stop())
            else:
                instance.process.kill()  # it holds no batch
            instance.phase = Phase.STOPPING
            instance.due = deadline
            instance.lateness = "it had not finished when it had to stop"
        self._take_snapshot()

    def _act_on_due(self) -> None:
        now = time.monotonic()
        for model, instance in self._instances():
            if instance.due is None or instance.due > now:
                continue
            instance.due = None
            if instance.phase is Phase.BACKING_OFF:
                instance.restarts += 1
                self._start_worker(model, instance)
                self._take_snapshot()
            elif instance.process is not None:
                instance.last_words = instance.lateness
                instance.process.kill()

    # --- a worker's life ----------------------------------------------------------------------------------------------

    def _start_worker(self, model: ModelWorkers, instance: Instance) -> None:
        try:
            process = WorkerProcess(model.config, instance.slot)
        except OSError as error:
            instance.last_words = f"no worker process can be started: {error.strerror}"
            logger.error("no worker started", extra=model.facts(reason=instance.last_words))
            self._after_death(model, instance, completed_a_batch=False)
            return
        instance.process = process
        instance.last_words = None
        instance.phase = Phase.LOADING
        instance.due = time.monotonic() + self._policy.load_timeout_s
        instance.lateness = f"it was not ready within {self._policy.load_timeout_s:g} s and was killed"
        self._watch(process.pidfd, lambda: self._on_exit(model, instance, process))
        self._watch(process.control.fileno(), lambda: self._on_control(model, instance, process))

    def _watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def _on_control(self, model: ModelWorkers, instance: Instance, process: WorkerProcess) -> None:
        if instance.process is not process:
            return  # its death was handled in the same pass
        try:
            for message in process.received():
                self._on_message(model, instance, process, message)
        except ProtocolError as error:
            process.hung_up = True  # it is not listened to any more
            instance.last_words = f"it broke the protocol ({error}) and was killed"
            process.kill()
        if process.hung_up:
            with suppress(KeyError):  # it may have hung up before
                self._selector.unregister(process.control)
            if instance.due is None:
                # It is ending, and its pidfd will say so. A process that goes on can be told nothing any more.
                instance.due = time.monotonic() + HANG_UP_SECONDS
                instance.lateness = "it closed its control socket and was killed"

    def _on_message(self, model: ModelWorkers, instance: Instance, process: WorkerProcess, message: Message) -> None:
        match message, instance.phase:
            case Loaded(), Phase.LOADING:
                self._on_loaded(model, instance, process, message)
            case Ready(), Phase.WARMING_UP:
                self._on_ready(model, instance, process.pid, message)
            case Failed(detail), _:
                instance.last_words = detail
                process.kill()
            case _, Phase.STOPPING:
                pass
            case _:
                raise ProtocolError(f"the message {type(message).__name__} is out of order")

    def _on_loaded(self, model: ModelWorkers, instance: Instance, process: WorkerProcess, loaded: Loaded) -> None:
        refusal = model.contradiction(loaded)
        if refusal is None and (model.ring is None or model.ring_lost):
            refusal = self._add_ring(model, loaded)
        if refusal is not None or model.ring is None:
            instance.last_words = refusal
            process.kill()
            return
        loops = self._engine.loop_event_fds()
        process.send(Attach(model.ring, len(loops)), [self._engine.ring_fd(model.ring), *loops])
        instance.phase = Phase.WARMING_UP
        self._take_snapshot()

    def _add_ring(self, model: ModelWorkers, loaded: Loaded) -> str | None:
        """Make the ring for the schema of the first worker that has loaded; what is wrong with it, if anything is."""
        config = model.config
        model.loaded = loaded
        try:
            ring = self._engine.add_ring(
                config.name,
                config.version,
                [(tensor.name, tensor.dtype, tensor.shape) for tensor in loaded.spec.inputs],
                [(tensor.name, tensor.dtype, tensor.shape) for tensor in loaded.spec.outputs],
                max_batch_size=min(config.max_batch_size, loaded.spec.max_batch_size or config.max_batch_size),
                max_queue_delay_us=config.max_queue_delay_us,
                queue_bytes=config.queue_bytes,
                rerun_on_worker_death=model.rerun,
            )
        except (ValueError, OSError) as error:
            model.loaded = None
            return f"no ring can hold its rows: {error}"
        model.ring, model.ring_lost = ring, False
        model.max_batch_size = self._engine.ring_max_batch_size(ring)
        if model.max_batch_size < config.max_batch_size:
            logger.info("smaller batches than asked for", extra=model.facts(max_batch_size=model.max_batch_size))
        return None

    def _on_ready(self, model: ModelWorkers, instance: Instance, pid: int, ready: Ready) -> None:
        instance.phase = Phase.READY
        instance.due = None
        instance.was_ready = True
        instance.batches_at_ready = self._batches_done(model)
        # A failed model is tried again: its next death without a completed batch makes it a failed one at once.
        model.failed = False
        model.detail = None
        logger.info(
            "worker ready",
            extra=model.facts(pid=pid, load_s=round(ready.load_seconds, 3), warmup_s=round(ready.warmup_seconds, 3)),
        )
        self._announce()

    def _on_exit(self, model: ModelWorkers, instance: Instance, process: WorkerProcess) -> None:
        if instance.phase in (Phase.LOADING, Phase.WARMING_UP):
            self._on_control(model, instance, process)  # its last words say why
        completed = instance.phase is Phase.READY and self._batches_done(model) > instance.batches_at_ready
        attached = instance.phase in (Phase.WARMING_UP, Phase.READY, Phase.STOPPING)
        with suppress(KeyError):
            self._selector.unregister(process.control)
        self._selector.unregister(process.pidfd)
        pid = process.pid
        end = process.reap()
        instance.process = None
        if attached and model.ring is not None:
            self._recover(model, model.ring, instance.slot)
        if self._stopping:
            instance.phase, instance.due = Phase.STOPPED, None
            self._take_snapshot()
            return
        instance.last_words = instance.last_words or f"its worker ended with {end}"
        logger.warning("worker died", extra=model.facts(pid=pid, reason=instance.last_words))
        self._after_death(model, instance, completed)

    def _recover(self, model: ModelWorkers, ring: int, slot: int) -> None:
        result = self._engine.recover(ring, slot)
        if result["batches_requeued"] or result["batches_failed"]:
            logger.warning(
                "a dead worker's batches are recovered",
                extra=model.facts(requeued=result["batches_requeued"], rows_failed=result["rows_failed"]),
            )
        if result["corrupt"] and not model.ring_lost:
            logger.error("ring corrupt: the model's workers start again on another one", extra=model.facts(ring=ring))
            model.ring_lost = True
            for instance in model.instances:
                if instance.process is not None and instance.phase is not Phase.LOADING:
                    instance.process.kill()

    def _after_death(self, model: ModelWorkers, instance: Instance, completed_a_batch: bool) -> None:
        model.detail = without_paths(instance.last_words or "")
        model.count_death(completed_a_batch, self._policy)
        if not instance.was_ready and not self._settled.is_set():
            # A model that cannot be loaded at start stops the start: its operator is there to mend it.
            instance.phase, instance.due = Phase.STOPPED, None
            model.failed = True
            self._fail_start(ModelLoadError(f"model {model.config.name!r}: {instance.last_words}"))
        else:
            instance.delay_s = self._policy.delay_after(0.0 if completed_a_batch else instance.delay_s)
            instance.phase = Phase.BACKING_OFF
            instance.due = time.monotonic() + instance.delay_s
            logger.info("worker restarts", extra=model.facts(delay_s=instance.delay_s))
        self._announce()

    # --- what others are told -----------------------------------------------------------------------------------------

    def _batches_done(self, model: ModelWorkers) -> int:
        rings = self._engine.stats()["rings"]
        return next((int(ring["batches_done"]) for ring in rings if ring["ring"] == model.ring), 0)

    def _fail_start(self, failure: ModelLoadError) -> None:
        self._failure = self._failure or failure
        self._settled.set()

    def _announce(self) -> None:
        """Derive routes, readiness and the snapshot from the models' states."""
        self._engine.publish(
            [
                (model.config.name, model.config.version, model.ring, model.latest, model.available)
                for model in self._models
                if model.served and model.ring is not None
            ]
        )
        ready = all(model.started and not model.failed for model in self._models)
        if ready != self._ready:
            self._ready = ready
            self._engine.set_ready(ready)
        self._take_snapshot()
        if ready:
            self._settled.set()

    def _take_snapshot(self) -> None:
        self._snapshot = tuple(model.status() for model in self._models)
