"""Models that come and go while others are served: Supervisor.add(), route() and remove()."""

import gc
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.errors import StartError
from penstock.core.status import ModelState
from penstock.serve import retirement
from penstock.serve.routes import Route
from tests.integration.numbered import ROW, times
from tests.integration.supervised import DEADLINE_SECONDS, WAIT, Running, Scripted, doubled, until


def version(folder: Path, number: int, **settings: Any) -> ModelConfig:
    return ModelConfig(name="m", version=str(number), path=times(folder, number), warmup_s=0, **settings)


def wait(future: "Future[Any]") -> Any:
    return future.result(DEADLINE_SECONDS)


def answers(running: Running, number: int) -> None:
    status, body = running.predict(ROW)
    assert status == 200, body
    assert (body["version"], body["outputs"]["y"]) == (str(number), [number * value for value in ROW])


def swap(running: Running, before: int | None, after: ModelConfig) -> None:
    wait(running.supervisor.add(after))
    wait(running.supervisor.route([Route("m", after.version, after.version, latest=True)]))
    if before is not None:
        wait(running.supervisor.remove("m", str(before)))


def test_a_model_comes_and_goes(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    status = wait(running.supervisor.add(version(tmp_path, 2)))
    assert (status.state, status.workers[0].pid is not None) == (ModelState.READY, True)
    assert running.predict(ROW)[0] == 404  # nothing leads to it yet
    wait(running.supervisor.route([Route("m", "2", "2", latest=True), Route("m", "staging", "2")]))
    answers(running, 2)
    status, body = running.ask(ROW, "m", "?version=staging")
    assert (status, body["version"]) == (200, "2")
    wait(running.supervisor.route([]))
    wait(running.supervisor.remove("m", "2"))
    assert running.supervisor.models() == []
    assert running.engine.stats()["rings"] == []
    assert running.predict(ROW)[0] == 404


def test_removing_what_is_not_there_does_nothing(run: Callable[..., Running]) -> None:
    wait(run([]).supervisor.remove("m", "2"))


def test_a_version_is_not_added_twice(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    wait(running.supervisor.add(version(tmp_path, 2)))
    with pytest.raises(StartError, match="loaded already"):
        wait(running.supervisor.add(version(tmp_path, 2)))


def test_what_cannot_be_loaded_leaves_nothing_behind(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    wait(running.supervisor.add(version(tmp_path, 2)))
    wait(running.supervisor.route([Route("m", "2", "2", latest=True)]))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(StartError, match=r"cannot load"):
        wait(running.supervisor.add(ModelConfig(name="m", version="3", path=broken)))
    until(lambda: [status.config.version for status in running.supervisor.models()] == ["2"], "the rest is gone")
    answers(running, 2)
    assert running.get("/health/ready") == 200


def test_swaps_under_load_lose_and_mix_nothing(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    swap(running, None, version(tmp_path, 1))
    done = threading.Event()
    wrong: list[Any] = []
    counts = [0]

    def ask() -> None:
        while not done.is_set():
            status, body = running.predict(ROW)
            factor = float(body.get("version", "nan"))
            if status != 200 or body["outputs"]["y"] != [factor * value for value in ROW]:
                wrong.append((status, body))
            counts[0] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(2, 12):
        swap(running, number - 1, version(tmp_path, number))
        answered = counts[0]
        until(lambda: counts[0] > answered, "the next version answers")  # noqa: B023
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [ring["version"] for ring in running.engine.stats()["rings"]] == ["11"]


def test_memory_and_descriptors_stay(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    swap(running, None, version(tmp_path, 1))
    swap(running, 1, version(tmp_path, 2))
    gc.collect()  # engines of earlier tests
    before = len(os.listdir("/proc/self/fd"))
    mappings = Path("/proc/self/maps").read_text().count("penstock-ring")
    for number in range(3, 8):
        swap(running, number - 1, version(tmp_path, number))
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, "no descriptor is left")  # pytest has some of its own
    assert Path("/proc/self/maps").read_text().count("penstock-ring") == mappings


def test_a_removed_version_answers_what_it_has(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run([])
    wait(running.supervisor.add(ModelConfig(name="m", path=scripted.path)))
    wait(running.supervisor.route([Route("m", "1", "1", latest=True)]))
    answer = running.predict_later([WAIT, 0])
    scripted.wait_until_inside()
    wait(running.supervisor.route([]))
    gone = running.supervisor.remove("m", "1")
    assert running.predict([0, 0])[0] == 404  # no request gets to it any more
    assert not gone.done()
    scripted.let_go()
    assert answer.result(DEADLINE_SECONDS) == (200, doubled([WAIT, 0]))
    wait(gone)


def test_a_worker_that_dies_while_its_version_drains_is_succeeded(
    run: Callable[..., Running], scripted: Scripted
) -> None:
    running = run([])
    wait(running.supervisor.add(ModelConfig(name="m", path=scripted.path, on_worker_death=OnWorkerDeath.RERUN)))
    wait(running.supervisor.route([Route("m", "1", "1", latest=True)]))
    answer = running.predict_later([WAIT, 0])
    scripted.wait_until_inside()
    gone = running.supervisor.remove("m", "1")
    os.kill(running.pid(), signal.SIGKILL)
    scripted.wait_until_inside()
    scripted.let_go()
    assert answer.result(DEADLINE_SECONDS) == (200, doubled([WAIT, 0]))
    wait(gone)


def test_an_added_version_can_be_removed_while_it_loads(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    (tmp_path / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    loading = running.supervisor.add(ModelConfig(name="m", path=tmp_path / "slow.py"))
    until(lambda: bool(running.supervisor.models()), "it loads")
    wait(running.supervisor.remove("m", "1"))
    with pytest.raises(StartError, match="unloaded before"):
        wait(loading)
    assert running.supervisor.models() == []


def test_a_server_that_stops_answers_whoever_waits(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    (tmp_path / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    loading = running.supervisor.add(ModelConfig(name="m", path=tmp_path / "slow.py"))
    running.supervisor.stop(grace_s=1.0)
    with pytest.raises(StartError, match="stops"):
        wait(loading)
    with pytest.raises(StartError, match="stops"):
        wait(running.supervisor.add(version(tmp_path, 2)))


def test_models_of_the_configuration_stay(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([version(tmp_path, 1)])
    wait(running.supervisor.remove("m", "1"))
    answers(running, 1)


def test_an_unloaded_name_says_so(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run([])
    wait(running.supervisor.route([Route("m", "1", "1", latest=True), Route("l", "1", "1", latest=True, lazy=True)]))
    status, body = running.predict(ROW)
    assert (status, body["code"]) == (503, "model_unavailable")
    status, body = running.predict(ROW, model="l")
    assert (status, body["code"]) == (503, "model_loading")
    assert running.engine.take_misses() == [("l", "1")]


def test_rows_that_no_worker_will_run_keep_no_removed_version(
    run: Callable[..., Running], scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retirement, "DRAIN_SECONDS", 0.0)
    running = run([])
    config = ModelConfig(name="m", path=scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    wait(running.supervisor.add(config))
    wait(running.supervisor.route([Route("m", "1", "1", latest=True)]))
    answer = running.predict_later([WAIT, 0])
    scripted.wait_until_inside()  # and stays there
    wait(running.supervisor.route([]))
    wait(running.supervisor.remove("m", "1"))
    status, body = answer.result(DEADLINE_SECONDS)
    assert (status, body["code"]) == (503, "worker_died")
    assert running.engine.stats()["rings"] == []
