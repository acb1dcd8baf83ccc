"""A registered version is loaded: at once, by the first request, at the start, after a crash; or not."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.status import ModelState, Origin
from penstock.registry.records import WantedMode
from penstock.serve.lifecycle import loading
from tests.integration.numbered import ROW, times
from tests.integration.registered import BY, Node, kinds, refusal, state_of
from tests.integration.supervised import DEADLINE_SECONDS, until


def test_a_version_is_loaded_and_unloaded(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0)
    record = server.register(times(folder, 2), "2.0.0")
    assert server.answering(ROW) == "model_not_found"
    server.call(server.lifecycle.load("m", None, lazy=False, by=BY))
    assert server.answering(ROW) == "2.0.0"
    status = server.status("2.0.0")
    assert status is not None
    assert (status.state, status.latest, status.origin) == (ModelState.READY, True, Origin.REGISTRY)
    assert status.digest == record.digest
    assert status.memory_bytes is not None
    assert status.memory_bytes > 1 << 20
    server.call(server.lifecycle.unload("m", None, by=BY))
    assert (server.answering(ROW), server.in_memory()) == ("model_not_found", [])
    assert kinds(server) == [
        ("loading", "2.0.0"),
        ("ready", "2.0.0"),
        ("active", "2.0.0"),
        ("inactive", "2.0.0"),
        ("unloaded", "2.0.0"),
    ]
    known = server.call(server.registry.version("m", "2.0.0"))
    assert known.inputs == (("x", "float32", (4,)),)
    assert known.load_seconds is not None


def test_what_cannot_be_loaded_gets_no_traffic(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.promote("1.0.0")
    (folder / "broken.onnx").write_bytes(b"no model")
    server.register(folder / "broken.onnx", "2.0.0")
    error = refusal(server, server.lifecycle.promote("m", "2.0.0", by=BY))
    assert error.code == "load_failed"
    assert "cannot load" in error.detail
    assert str(folder) not in error.detail
    assert server.answering(ROW) == "1.0.0"
    assert server.call(server.registry.version("m")).version == "1.0.0"
    failed = server.status("2.0.0")
    assert failed is not None
    assert (failed.state, failed.detail is not None) == (ModelState.FAILED, True)
    assert ("failed", "2.0.0") in kinds(server)


def test_what_has_died_since_it_was_loaded_gets_no_traffic(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    for number in (1, 2):
        record = server.register(times(folder, number), f"{number}.0.0")
    server.promote("1.0.0")
    server.call(server.lifecycle.load("m", "2.0.0", lazy=False, by=BY))
    shutil.rmtree(server.call(server.registry.fetch(record)))  # so that it cannot start again
    loaded = server.status("2.0.0")
    assert loaded is not None
    pid = loaded.workers[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: state_of(server, "2.0.0") is not ModelState.READY, "its worker's death is known")
    error = refusal(server, server.lifecycle.promote("m", "2.0.0", by=BY))
    assert error.code == "load_failed"
    assert server.answering(ROW) == "1.0.0"
    assert server.call(server.registry.version("m")).version == "1.0.0"


def test_a_lost_artefact_does_not_tell_where_it_was(node: Callable[..., Node], folder: Path, tmp_path: Path) -> None:
    server = node()
    record = server.register(times(folder, 1), "1.0.0")
    shutil.rmtree(server.call(server.registry.fetch(record)))
    error = refusal(server, server.lifecycle.load("m", None, lazy=False, by=BY))
    told = [error.detail, str(server.status("1.0.0")), str(server.call(server.registry.history("m")))]
    assert [str(tmp_path) in each for each in told] == [False, False, False]


def test_golden_rows_that_do_not_match_are_a_reason_to_refuse(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    for number, expected in ((2, [[2.0, 4.0, 6.0, 8.0]]), (3, [[0.0, 0.0, 0.0, 1.0]])):
        artefact = folder / f"v{number}"
        artefact.mkdir()
        times(artefact, number)
        (artefact / "golden.json").write_text(json.dumps({"inputs": {"x": [ROW]}, "outputs": {"y": expected}}))
        server.register(artefact, f"{number}.0.0")
    server.promote("2.0.0")
    error = refusal(server, server.lifecycle.promote("m", "3.0.0", by=BY))
    assert error.code == "load_failed"
    assert "golden" in error.detail
    assert server.answering(ROW) == "2.0.0"


def test_lazy_models_are_loaded_by_the_first_request(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 2), "2.0.0")
    server.call(server.lifecycle.load("m", None, lazy=True, by=BY))
    assert server.in_memory() == []
    status, body = server.answer(ROW)
    assert (status, body["code"]) == (503, "model_loading")
    server.until_answering(ROW, "2.0.0")


def test_an_alias_has_its_version_loaded_as_the_version_itself_does(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 2), "2.0.0")
    server.call(server.lifecycle.set_alias("m", "staging", "2.0.0", by=BY))
    server.call(server.lifecycle.load("m", None, lazy=True, by=BY))
    status, body = server.answer(ROW, version="staging")
    assert (status, body["code"]) == (503, "model_loading")
    server.until_answering(ROW, "2.0.0")
    assert server.answer(ROW, version="staging")[1]["version"] == "2.0.0"


def test_requests_do_not_have_a_broken_model_loaded_again_and_again(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    (folder / "broken.onnx").write_bytes(b"no model")
    server.register(folder / "broken.onnx", "1.0.0")
    server.call(server.lifecycle.load("m", None, lazy=True, by=BY))
    asked = [server.begin(server.lifecycle.bring_missed([("m", "1.0.0")])) for _ in range(5)]
    for each in asked:
        each.result(DEADLINE_SECONDS)
    server.call(server.lifecycle.bring_missed([("m", "1.0.0")]))
    assert server.answer(ROW)[0] == 503
    assert kinds(server).count(("loading", "1.0.0")) == 1


def test_what_was_loaded_is_loaded_again_after_a_crash(node: Callable[..., Node], folder: Path) -> None:
    server = node(stop=False)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    server.crash()
    assert node().answering(ROW) == "2.0.0"


def test_preloaded_models_are_there_at_the_start(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.stop()
    assert node("other", preload=["m@1.0.0", "absent"]).answering(ROW) == "1.0.0"


def test_artefacts_that_were_away_are_loaded_when_they_are_back(
    node: Callable[..., Node], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "RETRY_SECONDS", 0.0)
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.promote("1.0.0")
    server.stop()
    artefacts = tmp_path / "registry" / "artefacts"
    artefacts.rename(tmp_path / "away")
    server = node()
    assert server.answering(ROW) in ("model_unavailable", "model_not_found")
    shutil.rmtree(artefacts, ignore_errors=True)
    (tmp_path / "away").rename(artefacts)
    server.until_answering(ROW, "1.0.0")


HELD = """
import signal
from pathlib import Path
from penstock.worker import Tensor

class Model:
    inputs = {{"x": Tensor("float32", (4,))}}
    outputs = {{"y": Tensor("float32", (4,))}}

    def load(self):
        if Path({held!r}).exists():
            signal.pause()

    def predict(self, batch):
        return batch["x"]
"""


def test_what_a_busy_machine_could_not_load_is_tried_again(
    node: Callable[..., Node], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A champion that was killed while it loaded after a reboot is there when the machine has time for it."""
    monkeypatch.setattr(loading, "RETRY_SECONDS", 0.0)
    (folder / "held").touch()
    (folder / "held.py").write_text(HELD.format(held=str(folder / "held")))
    server = node()
    server.register(folder / "held.py", "1.0.0", settings={"load_timeout_s": 3})
    assert refusal(server, server.lifecycle.load("m", "1.0.0", lazy=False, by=BY)).code == "load_failed"
    server.call(server.registry.set_wanted("m", "1.0.0", WantedMode.LOADED, by=BY))
    # Once since it was asked for, once since it is wanted, and then since it was too late before.
    until(lambda: kinds(server).count(("loading", "1.0.0")) > 2, "it is tried again")
    (folder / "held").unlink()
    server.until_answering(ROW, "1.0.0")
