"""Runs a test: serves the model or asks for it, makes each check, and gathers what they came to."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import penstock_client
from penstock.core.errors import StartError
from penstock.testing.accuracy import check_accuracy
from penstock.testing.checks import Check, Outcome, Report, failed, passed, skipped
from penstock.testing.fuzz import check_fuzz
from penstock.testing.golden import GoldenRows, check_golden, golden_beside, read_golden_rows
from penstock.testing.latency import check_latency
from penstock.testing.plan import TestPlan
from penstock.testing.serving import Served, ServedEndError, ServeOptions, paths_of, serve
from penstock.testing.target import Target, target_of

__all__ = ["Remote", "is_path", "run_plan"]

# Where somebody who repeats a call will have the model served.
_USUAL_URL = "http://127.0.0.1:8000"
_GOLDEN_WORDS = "golden outputs"


@dataclass(frozen=True, slots=True)
class Remote:
    """A server that runs elsewhere: a client of it, where it is, and the key that is shown to it."""

    client: penstock_client.Client
    url: str
    key: str | None = None


def run_plan(plan: TestPlan, remote: Remote | None = None, watch: Callable[[str], None] = lambda _: None) -> Report:
    """Make all checks of a plan, of a model at a server or of one that is served for it.

    `watch` is told what begins. ConfigError for what was given wrongly; errors of the client when a server elsewhere
    does not answer. What the model does wrong is in the report.
    """
    # Before minutes go by: files that cannot be read.
    given = [read_golden_rows(path) for path in plan.golden]
    started, begin = datetime.now().astimezone().isoformat(timespec="seconds"), time.monotonic()
    checks: list[Check] = []
    version = plan.version or ""
    with ExitStack() as stack:
        target, where, served = _opened(plan, remote, stack, checks, watch)
        if target is not None:
            version = target.version
            own = None if remote is not None else golden_beside(_path_of(plan, target.name))
            carried = [] if own is None else [read_golden_rows(own)]
            for group, made in (
                ("golden", _golden(target, [*carried, *given])),
                ("fuzz", _fuzz(target, plan)),
                ("accuracy", _accuracy(target, plan)),
                ("latency", _latency(target, plan, where)),
            ):
                watch(group)
                checks += _timed(made)
        if served is not None:
            checks.append(_stopped(served))
    name = target.name if target is not None else Path(plan.model.partition("=")[2] or plan.model).stem
    return Report(name, version, checks, started, time.monotonic() - begin, plan.seed)


def _opened(
    plan: TestPlan, remote: Remote | None, stack: ExitStack, checks: list[Check], watch: Callable[[str], None]
) -> tuple[Target | None, str, Served | None]:
    """Return the model, where it is served, and the server if it runs for this test; None where it does not start."""
    if remote is not None:
        target = target_of(remote.client, plan.model, remote.url, version=plan.version, key=remote.key)
        return target, remote.url, None
    watch("start")
    begin = time.monotonic()
    options = _options_of(plan)
    try:
        served = serve(options)
    except StartError as error:
        checks.append(replace(failed("server", "starts", str(error)), seconds=time.monotonic() - begin))
        checks += _differences(plan, str(error))
        checks += _unmade(plan)
        return None, "", None
    stack.callback(served.end)  # where nobody has stopped it
    seconds = time.monotonic() - begin
    checks.append(replace(passed("server", "starts", f"ready after {seconds:.1f} s"), seconds=seconds))
    name = plan.model if not options.models else served.model
    return target_of(served.client, name, _USUAL_URL, version=plan.version), served.socket_url, served


def _unmade(plan: TestPlan) -> Iterator[Check]:
    """What was asked for and cannot be made has failed."""
    asked = {"golden": plan.golden, "fuzz": plan.fuzz, "accuracy": plan.accuracy, "latency": plan.latency}
    for group, options in asked.items():
        yield (failed if options else skipped)(group, "all of it", "the server did not start")


def is_path(model: str) -> bool:
    """Whether a model is a file or folder here, or NAME=PATH of one."""
    return Path(model).exists() or "=" in model


def _options_of(plan: TestPlan) -> ServeOptions:
    """Return what is served beside the models of the configuration: nothing, where it has the model."""
    models = (plan.model,) if is_path(plan.model) or plan.config is None else ()
    return ServeOptions(models, plan.config, plan.settings)


def _path_of(plan: TestPlan, name: str) -> Path:
    return paths_of(_options_of(plan)).get(name, Path(plan.model))


def _differences(plan: TestPlan, message: str) -> Iterator[Check]:
    """Say of a model that was refused for its golden rows how far off each output is.

    It is served once more from a copy without them: a server serves no model that does not give them.
    """
    options = _options_of(plan)
    name = next(reversed(paths_of(options))) if options.models else plan.model
    path = _path_of(plan, name)
    own = golden_beside(path)
    if own is None or _GOLDEN_WORDS not in message:
        return
    golden = read_golden_rows(own)
    with tempfile.TemporaryDirectory(prefix="penstock-test-") as folder:
        copy = Path(folder) / "copy"
        whole = (path if path.is_dir() else path.parent).absolute()
        # Links: weights may be large.
        shutil.copytree(whole, copy, ignore=_ignored(own.absolute(), path), copy_function=os.symlink)
        model = copy if path.is_dir() else copy / path.name
        # A model of the configuration would be there twice.
        config = plan.config if options.models else None
        try:
            with serve(replace(options, models=(f"{name}={model}",), config=config)) as served:
                target = target_of(served.client, name, _USUAL_URL)
                yield from [check for check in check_golden(target, golden) if check.outcome is Outcome.FAILED]
        except StartError:
            return


def _ignored(own: Path, model: Path) -> Callable[[str, list[str]], set[str]]:
    """Leave out the golden rows, and of what lies beside a single file the folders that are no packages."""

    def ignored(folder: str, names: list[str]) -> set[str]:
        here = Path(folder)
        left = {name for name in names if here / name == own or name == "__pycache__"}
        if not model.is_dir() and here == model.parent.absolute():
            folders = [name for name in names if (here / name).is_dir()]
            left |= {name for name in folders if not (here / name / "__init__.py").exists()}
        return left

    return ignored


def _golden(target: Target, files: list[GoldenRows]) -> Iterator[Check]:
    if not files:
        yield skipped("golden", "golden rows", "the model carries none here, and no --golden FILE was given")
    for file in files:
        yield from check_golden(target, file)


def _fuzz(target: Target, plan: TestPlan) -> Iterator[Check]:
    if plan.fuzz is None:
        yield skipped("fuzz", "schema fuzz", "0 rows were asked for")
    else:
        yield from check_fuzz(target, plan.fuzz)


def _accuracy(target: Target, plan: TestPlan) -> Iterator[Check]:
    if plan.accuracy is None:
        yield skipped("accuracy", "accuracy", "no --labels FILE was given")
    else:
        yield from check_accuracy(target, plan.accuracy)


def _latency(target: Target, plan: TestPlan, where: str) -> Iterator[Check]:
    if plan.latency is None:
        yield skipped("latency", "latency", "no --p99-ms was given")
    else:
        yield check_latency(target, plan.latency, where)


def _timed(checks: Iterable[Check]) -> Iterator[Check]:
    begin = time.monotonic()
    try:
        for check in checks:
            now = time.monotonic()
            yield replace(check, seconds=now - begin)
            begin = now
    except penstock_client.TransportError as error:
        yield failed("server", "answers", str(error))


def _stopped(served: Served) -> Check:
    begin = time.monotonic()
    try:
        served.stop()
    except ServedEndError as error:
        return replace(failed("server", "stops", str(error)), seconds=time.monotonic() - begin)
    return replace(passed("server", "stops", "as it was told to"), seconds=time.monotonic() - begin)
