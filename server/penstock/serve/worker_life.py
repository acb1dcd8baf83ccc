"""What happens between a worker process's start and its end, whoever it works for."""

from __future__ import annotations

import logging
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from penstock.core.config import Scheduling
from penstock.core.devices import device_of, visible_gpus
from penstock.core.errors import ConfigError
from penstock.serve.objectives import unkeepable_objectives
from penstock.serve.placement import placement_of
from penstock.serve.rings import Rings
from penstock.serve.worker_group import Instance, Phase, RestartPolicy, WorkerGroup
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.messages import (
    Attach,
    Failed,
    Load,
    Loaded,
    Measured,
    Message,
    ModelToLoad,
    ProtocolError,
    Ready,
    Stop,
)

__all__ = ["Decisions", "WorkerLife", "back_off", "let_finish"]

logger = logging.getLogger("penstock.supervisor")

# How long a worker may live on after it has closed its control socket.
HANG_UP_SECONDS = 1.0
# By the kernel's choice of a victim; by std::terminate, after a std::bad_alloc; by using what was not allocated.
_ENDS_WITHOUT_MEMORY = ("signal SIGKILL", "signal SIGABRT", "signal SIGSEGV", "signal SIGBUS")


class Decisions(Protocol):
    """Who decides what follows."""

    def on_change(self) -> None:
        """Something that others may see has changed."""

    def on_ready(self, group: WorkerGroup, instance: Instance) -> None:
        """A worker takes batches from now on."""

    def on_death(self, group: WorkerGroup, instance: Instance, completed_a_batch: bool) -> None:
        """A worker that was not asked to stop has ended, or could not be started; its batches are recovered."""

    def on_stopped(self, group: WorkerGroup, instance: Instance) -> None:
        """A worker that was asked to stop has."""


class WorkerLife:
    """Starts processes, listens to them, and takes note of their end. Used by the supervisor's thread."""

    def __init__(
        self, rings: Rings, selector: selectors.BaseSelector, scheduling: Scheduling, decisions: Decisions
    ) -> None:
        self._rings = rings
        self._selector = selector
        self._scheduling = scheduling
        self._decisions = decisions

    def start(self, group: WorkerGroup, instance: Instance) -> None:
        """Start a process for an instance that has none."""
        instance.loaded.clear()
        instance.samples.clear()
        try:
            process = WorkerProcess(_load(group, instance))
        except (OSError, ConfigError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            instance.last_words = f"no worker process can be started: {reason}"
            instance.stalled = isinstance(error, OSError)
            logger.error("no worker started", extra=instance.facts(reason=instance.last_words))
            self._decisions.on_death(group, instance, completed_a_batch=False)
            return
        instance.process = process
        instance.last_words = None
        instance.stalled = False
        instance.phase = Phase.LOADING
        instance.due = time.monotonic() + instance.load_timeout_s
        instance.lateness = f"it was not ready within {instance.load_timeout_s:g} s (load_timeout_s) and was killed"
        self._watch(process.pidfd, lambda: self._on_exit(group, instance, process))
        self._watch(process.control.fileno(), lambda: self._on_control(instance, process, group))

    def _watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    # --- what it says -------------------------------------------------------------------------------------------------

    def _on_control(self, instance: Instance, process: WorkerProcess, group: WorkerGroup) -> None:
        if instance.process is not process:
            return  # its death was handled in the same pass
        try:
            for message in process.received():
                self._on_message(group, instance, process, message)
        except ProtocolError as error:
            process.hung_up = True  # it is not listened to any more
            instance.last_words = f"it broke the protocol ({error}) and was killed"
            process.kill()
        if process.hung_up:
            with suppress(KeyError):  # it may have hung up before
                self._selector.unregister(process.control)
            if instance.phase is Phase.READY:
                # It is ending, and its pidfd will say so. A process that goes on can be told nothing any more.
                instance.due = time.monotonic() + HANG_UP_SECONDS
                instance.lateness = "it closed its control socket and was killed"

    def _on_message(self, group: WorkerGroup, instance: Instance, process: WorkerProcess, message: Message) -> None:
        match message, instance.phase:
            case Loaded(), Phase.LOADING:
                self._on_loaded(instance, process, message)
            case Measured(model, samples), Phase.WARMING_UP if model < len(instance.models):
                instance.samples[model] = samples
            case Ready(), Phase.WARMING_UP:
                self._on_ready(group, instance, process.pid, message)
            case Failed(detail, model), _:
                self._give_up(instance, process, model, detail)
            case _, Phase.STOPPING:
                pass
            case _:
                raise ProtocolError(f"the message {type(message).__name__} is out of order")

    def _on_loaded(self, instance: Instance, process: WorkerProcess, loaded: Loaded) -> None:
        if loaded.model != len(instance.loaded):
            raise ProtocolError(f"model {loaded.model} was loaded out of order")
        instance.loaded.append(loaded)
        if len(instance.loaded) < len(instance.models):
            return
        # Not before all are loaded: until then a ring may turn out to be corrupt.
        for number, (model, known) in enumerate(zip(instance.models, instance.loaded, strict=True)):
            if instance.quarantine and model.ring_lost:
                # A new ring is for the workers of the whole group to make, and what was in quarantine is answered.
                self._give_up(instance, process, number, "the ring with what it was to run is gone")
                return
            refusal = self._rings.ensure(model, known)
            if refusal is not None:
                self._give_up(instance, process, number, refusal)
                return
        descriptors, loops = self._rings.descriptors(instance.models)
        rings = tuple(model.ring for model in instance.models if model.ring is not None)
        process.send(Attach(rings, loops, self._scheduling, instance.quarantine), descriptors)
        instance.phase = Phase.WARMING_UP
        self._decisions.on_change()

    def _on_ready(self, group: WorkerGroup, instance: Instance, pid: int, ready: Ready) -> None:
        instance.phase = Phase.READY
        instance.due = None
        instance.was_ready = True
        instance.batches_at_ready = self._rings.batches_done(instance.models)
        measured = [self._rings.seed(instance.models[number], samples) for number, samples in instance.samples.items()]
        if any(measured):
            for config, reason in unkeepable_objectives(self._rings.priced(group.models)):
                logger.warning(
                    "an objective cannot be kept",
                    extra={"model": config.name, "version": config.version, "reason": reason},
                )
        logger.info(
            "worker ready",
            extra=instance.facts(
                pid=pid,
                load_s=round(ready.load_seconds, 3),
                warmup_s=round(ready.warmup_seconds, 3),
                **({"quarantine": True} if instance.quarantine else {}),
            ),
        )
        self._decisions.on_ready(group, instance)

    def _give_up(self, instance: Instance, process: WorkerProcess, model: int | None, why: str) -> None:
        if model is not None and model < len(instance.models) > 1:
            why = f"model {instance.models[model].config.name!r}: {why}"
        instance.last_words = why
        process.kill()

    # --- its end ------------------------------------------------------------------------------------------------------

    def _on_exit(self, group: WorkerGroup, instance: Instance, process: WorkerProcess) -> None:
        if instance.phase in (Phase.LOADING, Phase.WARMING_UP):
            self._on_control(instance, process, group)  # its last words say why
        was_ready = instance.phase is Phase.READY
        completed = was_ready and self._rings.batches_done(instance.models) > instance.batches_at_ready
        attached = instance.phase in (Phase.WARMING_UP, Phase.READY, Phase.STOPPING)
        with suppress(KeyError):
            self._selector.unregister(process.control)
        self._selector.unregister(process.pidfd)
        pid = process.pid
        end = process.reap()
        instance.process = None
        if attached:
            self._recover(group, instance)
        if instance.phase is Phase.STOPPING:
            instance.phase, instance.due = Phase.STOPPED, None
            self._decisions.on_stopped(group, instance)
            return
        instance.last_words = instance.last_words or _last_words(instance, end)
        logger.warning("worker died", extra=instance.facts(pid=pid, reason=instance.last_words))
        self._decisions.on_death(group, instance, completed)

    def _recover(self, group: WorkerGroup, instance: Instance) -> None:
        known = [model.ring_lost for model in group.models]
        for model in instance.models:
            self._rings.recover(model, instance.slot)
        if not any(model.ring_lost for model in group.models):
            return
        # Its workers sleep in the first ring of a group: with one ring, the group has lost them all.
        for model in group.models:
            model.ring_lost = model.ring is not None
        if known == [model.ring_lost for model in group.models]:
            return
        for other in group.processes:
            if other.process is not None and other.phase is not Phase.LOADING:
                other.process.kill()


def let_finish(instance: Instance, process: WorkerProcess, grace_s: float) -> None:
    """Ask a worker to end after the batch at hand, and give it `grace_s` for that."""
    process.send(Stop())
    instance.phase = Phase.STOPPING
    instance.due = time.monotonic() + grace_s
    instance.lateness = "it had not finished when it had to stop"


def back_off(instance: Instance, policy: RestartPolicy, last_delay_s: float) -> None:
    """Have an instance started again after a while, longer than the last one."""
    instance.delay_s = policy.delay_after(last_delay_s)
    instance.phase = Phase.BACKING_OFF
    instance.due = time.monotonic() + instance.delay_s
    logger.info("worker restarts", extra=instance.facts(delay_s=instance.delay_s))


def _load(group: WorkerGroup, instance: Instance) -> Load:
    """Return what its process is told. Only a model's first worker measures: a successor is waited for."""
    config = instance.models[0].config
    return Load(
        worker=instance.slot,
        models=tuple(
            ModelToLoad(
                name=model.config.name,
                version=model.config.version,
                path=str(model.config.path),
                backend=str(model.config.backend),
                intra_op_threads=model.config.intra_op_threads,
                warmup_seconds=0.0 if model.samples or instance.slot > 0 else model.config.warmup_s,
                lengths=model.config.lengths,
                max_batch_tokens=model.config.max_batch_tokens,
                convert=str(model.config.convert),
                trusted_digests=model.config.trusted_digests,
                trusted_types=model.config.trusted_types,
                golden=_golden_of(model.config.path),
                max_batch_size=model.config.max_batch_size,
                device=device_of(model.config.device, instance.slot, visible_gpus()),
                precision=str(model.config.precision),
            )
            for model in instance.models
        ),
        placement=placement_of(config, None if instance.quarantine else instance.slot),
        memory_bytes=config.memory_bytes,
        idle=group.comes_and_goes and not group.served,
    )


def _golden_of(path: Path) -> str:
    """Return the path of a model's golden rows, empty when it has none: they lie where a schema file would."""
    folder = path if path.is_dir() else path.parent
    own = [] if path.is_dir() else [folder / f"{path.stem}.golden.json"]
    return next((str(file) for file in [*own, folder / "golden.json"] if file.is_file()), "")


def _last_words(instance: Instance, end: str) -> str:
    """Say of a process that ended without a word how it ended, and what may be behind it."""
    limit = instance.models[0].config.memory_bytes
    loading = instance.phase in (Phase.LOADING, Phase.WARMING_UP)
    if not loading or not (limit or end in _ENDS_WITHOUT_MEMORY):
        return f"its worker ended with {end}"
    return (
        f"its worker ended with {end} while it loaded: the file may be damaged, or need more memory than there is "
        f"(memory_bytes is {limit}{'' if limit else ', which is what the machine has'})"
    )
