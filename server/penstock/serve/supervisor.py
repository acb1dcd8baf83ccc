"""Keeps the workers of all models alive, on one plain thread.

The thread waits on pidfds and control sockets, starts again what has died, and tells the engine which rings and routes
there are. Models of the configuration are there from the start to the end; others come, get routes and go as they are
told to by another thread. Everyone else gets an immutable snapshot of what it knows.
"""

from __future__ import annotations

import logging
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from penstock.core.config import ModelConfig, Scheduling
from penstock.core.errors import LoadStalledError, ModelLoadError, StartError
from penstock.core.status import ModelStatus
from penstock.serve.commands import Commands
from penstock.serve.quarantine import Quarantine
from penstock.serve.retirement import Retirement
from penstock.serve.rings import Rings
from penstock.serve.routes import Route, published
from penstock.serve.served_model import ServedModel
from penstock.serve.worker_group import Instance, Phase, RestartPolicy, WorkerGroup, make_groups
from penstock.serve.worker_life import WorkerLife, back_off, let_finish
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.fault import without_paths

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["Supervisor"]

logger = logging.getLogger("penstock.supervisor")

# How long workers that hold no batch any more may take to end.
RETIREMENT_STOP_SECONDS = 5.0


class Supervisor:
    """Starts, watches and stops the workers of models.

    start(), wait_ready() and stop() are called by one thread; models(), add(), remove() and route() by any, between
    start() and stop(). With `hold` the server is not ready before release(). Should the thread fail, `crash` says how,
    and then `on_crash` is called there: nothing can be served any more.
    """

    def __init__(
        self,
        engine: Engine,
        models: Sequence[ModelConfig],
        policy: RestartPolicy | None = None,
        scheduling: Scheduling = Scheduling.DEADLINE,
        *,
        hold: bool = False,
        on_crash: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._on_crash = on_crash
        self.crash: str | None = None
        self._policy = policy or RestartPolicy()
        self._scheduling = scheduling
        self._groups = make_groups(models)
        self._order = {(config.name, config.version): place for place, config in enumerate(models)}
        self._rings = Rings(engine)
        self._routes: tuple[Route, ...] = ()
        self._loading: dict[WorkerGroup, Future[ModelStatus]] = {}
        self._retirement = Retirement(engine, self._rings)
        self._held = hold
        self._life: WorkerLife
        self._quarantine: Quarantine
        self._selector: selectors.BaseSelector
        self._commands: Commands
        self._thread: threading.Thread | None = None
        self._settled = threading.Event()  # all models are ready, or one cannot be
        self._failure: ModelLoadError | None = None
        self._ready = False
        self._stopping = False
        self._snapshot: tuple[ModelStatus, ...] = ()
        self._take_snapshot()

    def start(self) -> None:
        """Start the thread, which starts the workers."""
        self._selector = selectors.DefaultSelector()
        self._life = WorkerLife(self._rings, self._selector, self._scheduling, self)
        self._quarantine = Quarantine(self._rings, self._life, self._policy)
        self._commands = Commands()
        self._selector.register(self._commands.descriptor, selectors.EVENT_READ, self._commands.run)
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

    # --- models that come and go --------------------------------------------------------------------------------------

    def add(self, config: ModelConfig) -> Future[ModelStatus]:
        """Load a model version beside the others, at idle priority; done when all of its workers are ready.

        No route leads to it before route(). Fails with ModelLoadError when it cannot be served: then nothing of it is
        left. Whoever cancels the future gives up waiting, and has to remove() the version.
        """
        return self._commands.ask(lambda done: self._add(config, done))

    def remove(self, name: str, version: str) -> Future[None]:
        """Let a version that was added answer what it has, end its workers, give its memory back.

        Its routes go with it. Does nothing for a version that is not there.
        """
        return self._commands.ask(lambda done: self._remove(name, version, done))

    def route(self, routes: Sequence[Route]) -> Future[datetime]:
        """Let these be the routes to versions that were added, all at once; when that was."""
        return self._commands.ask(lambda done: self._route(tuple(routes), done))

    def release(self) -> Future[None]:
        """Let the server be ready as soon as the models of the configuration are; done when that was decided."""
        return self._commands.ask(self._release)

    def _release(self, done: Future[None]) -> None:
        self._held = False
        self._announce()
        done.set_result(None)

    def _add(self, config: ModelConfig, done: Future[ModelStatus]) -> None:
        if self._find(config.name, config.version) is not None:
            done.set_exception(ModelLoadError(f"model {config.name!r} version {config.version!r} is loaded already"))
            return
        group = WorkerGroup([ServedModel(config, latest=False)], comes_and_goes=True)
        self._groups.append(group)
        self._loading[group] = done
        for instance in group.instances:
            if group in self._loading:  # the first could not even be started
                self._life.start(group, instance)
        self._take_snapshot()

    def _remove(self, name: str, version: str, done: Future[None]) -> None:
        group = self._find(name, version)
        if group is None or not group.comes_and_goes:
            done.set_result(None)
            return
        self._fail_loading(group, "it was unloaded before it was ready")
        self._retire(group, done)

    def _route(self, routes: tuple[Route, ...], done: Future[datetime]) -> None:
        self._routes = routes
        self._announce()
        done.set_result(datetime.now(UTC))

    def _find(self, name: str, version: str) -> WorkerGroup | None:
        for group in self._groups:
            if any((model.config.name, model.config.version) == (name, version) for model in group.models):
                return group
        return None

    def _fail_loading(self, group: WorkerGroup, why: str, *, stalled: bool = False) -> None:
        done = self._loading.pop(group, None)
        if done is not None:
            done.set_exception(LoadStalledError(why) if stalled else ModelLoadError(why))

    def _retire(self, group: WorkerGroup, done: Future[None] | None = None) -> None:
        self._retirement.begin(group, done)
        self._announce()

    def stop(self, grace_s: float = 10.0) -> None:
        """Let the workers finish their batches, kill those that have not after `grace_s`, and end the thread."""
        if self._thread is None:
            return
        self._commands.post(lambda: self._begin_to_stop(grace_s))
        self._thread.join()
        self._thread = None
        self._selector.close()

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
                self._follow_retirement()
        except Exception as error:
            # A fault of ours. This thread's end kills the workers, so nobody may believe that they are served.
            logger.exception("the supervisor failed")
            self._engine.set_ready(False)
            self.crash = f"the supervisor failed: {type(error).__name__}"
            self._fail_start(ModelLoadError(self.crash))
            self._on_crash()
            self._abandon_workers()
        finally:
            self._settled.set()
            self._commands.close("the server stops")
            for group in list(self._loading):
                self._fail_loading(group, "the server stops")
            self._retirement.abandon()

    def _abandon_workers(self) -> None:
        for _, instance in self._instances():
            if instance.process is not None:
                instance.process.kill()
                instance.process.reap()
                instance.process = None

    def _instances(self) -> list[tuple[WorkerGroup, Instance]]:
        return [(group, instance) for group in self._groups for instance in group.processes]

    def _processes(self) -> list[WorkerProcess]:
        return [instance.process for _, instance in self._instances() if instance.process is not None]

    def _seconds_to_next_due(self) -> float | None:
        dues = [instance.due for _, instance in self._instances() if instance.due is not None]
        dues += [process.idle_until for process in self._processes() if process.idle_until is not None]
        if self._retirement.due is not None:
            dues.append(self._retirement.due)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _follow_retirement(self) -> None:
        if self._stopping:
            return
        for group in self._retirement.drained():
            for instance in group.processes:
                if instance.process is None:
                    instance.phase, instance.due = Phase.STOPPED, None
                elif instance.phase is Phase.READY:
                    let_finish(instance, instance.process, RETIREMENT_STOP_SECONDS)
                elif instance.phase is not Phase.STOPPING:
                    instance.process.kill()
                    instance.phase = Phase.STOPPING
        gone = self._retirement.finish()
        if gone:
            self._groups = [group for group in self._groups if group not in gone]
            self._take_snapshot()

    def _begin_to_stop(self, grace_s: float) -> None:
        self._commands.refuse("the server stops")
        self._stopping = True
        for _, instance in self._instances():
            if instance.process is None:
                instance.phase, instance.due = Phase.STOPPED, None
                continue
            if instance.phase is not Phase.READY:
                instance.process.kill()  # it holds no batch
            let_finish(instance, instance.process, grace_s)
        self._take_snapshot()

    def _act_on_due(self) -> None:
        now = time.monotonic()
        for process in self._processes():
            if process.idle_until is not None and process.idle_until <= now:
                process.end_idleness()
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
                self._mind(group)
            else:
                instance.last_words = instance.lateness
                instance.stalled = instance.phase in (Phase.LOADING, Phase.WARMING_UP)
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
        self._mind(group)
        self._announce()
        if group.started and group in self._loading:
            self._loading.pop(group).set_result(group.statuses()[0])

    def on_stopped(self, group: WorkerGroup, instance: Instance) -> None:
        """See Decisions."""
        self._mind(group)
        self._take_snapshot()

    def on_death(self, group: WorkerGroup, instance: Instance, completed_a_batch: bool) -> None:
        """See Decisions."""
        if instance.quarantine:
            self._quarantine.after_death(instance)
        elif group in self._loading or (group.retiring and not group.served):
            # It has no traffic yet, and will have none: whoever asked for it hears why.
            instance.phase, instance.due = Phase.STOPPED, None
            self._fail_loading(group, _for_clients(group, instance), stalled=instance.stalled)
            if not group.retiring:
                self._retire(group)
        elif not instance.was_ready and not self._settled.is_set():
            # A model that cannot be loaded at start stops the start: its operator is there to mend it.
            instance.phase, instance.due = Phase.STOPPED, None
            group.failed = True
            self._explain(group, instance)
            self._fail_start(ModelLoadError(f"{group.label}: {instance.last_words}"))
        else:
            group.count_death(completed_a_batch, self._policy)
            self._explain(group, instance)
            back_off(instance, self._policy, 0.0 if completed_a_batch else instance.delay_s)
        self._mind(group)
        self._announce()

    def _explain(self, group: WorkerGroup, instance: Instance) -> None:
        for model in group.models:
            model.detail = _for_clients(group, instance)

    def _mind(self, group: WorkerGroup) -> None:
        if not self._stopping:
            self._quarantine.mind(group)

    # --- what others are told -----------------------------------------------------------------------------------------

    def _fail_start(self, failure: ModelLoadError) -> None:
        self._failure = self._failure or failure
        self._settled.set()

    def _announce(self) -> None:
        """Derive routes, readiness and the snapshot from the groups' states."""
        models = [(group, model) for group in self._groups for model in group.models]
        for group, model in models:
            self._rings.tell_workers(model, group.workers_ready)
        self._engine.publish(published(self._groups, self._routes))
        of_configuration = [group for group in self._groups if not group.comes_and_goes]
        ready = not self._held and all(group.started and not group.failed for group in of_configuration)
        if ready != self._ready:
            self._ready = ready
            self._engine.set_ready(ready)
        self._take_snapshot()
        if all(group.started and not group.failed for group in of_configuration):
            self._settled.set()

    def _take_snapshot(self) -> None:
        statuses = [status for group in self._groups for status in group.statuses()]
        last = len(self._order)
        self._snapshot = tuple(sorted(statuses, key=lambda s: self._order.get((s.config.name, s.config.version), last)))


def _for_clients(group: WorkerGroup, instance: Instance) -> str:
    """Return what a process said last; of paths only the names of the models' own files."""
    paths = [model.config.path for model in group.models]
    return without_paths(instance.last_words or "", [path if path.is_dir() else path.parent for path in paths])
