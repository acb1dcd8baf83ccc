"""Registered models on a server: loaded, swapped, rolled back and let go, through crashes and beside other servers."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import RequestError
from penstock.core.models import Mirror
from penstock.core.status import ModelState, Origin
from penstock.registry.records import CHAMPION, EventKind, WantedMode
from penstock.serve.lifecycle import loading
from tests.integration.registered import BY, Node
from tests.integration.supervised import DEADLINE_SECONDS, until
from tests.integration.test_added_models import ROW, times


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Start servers on one registry: node(), node("there", standby_s=0)."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with ExitStack() as stack:

        def start(name: str = "here", *, stop: bool = True, **options: Any) -> Node:
            started = Node(folder, name, **options)
            if stop:
                stack.callback(started.stop)
            return started

        yield start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path


def kinds(server: Node, model: str = "m") -> list[tuple[str, str | None]]:
    events = server.call(server.registry.history(model))
    return [(str(event.kind), event.version) for event in reversed(events) if event.node]


def state_of(server: Node, version: str) -> ModelState | None:
    status = server.status(version)
    return None if status is None else status.state


def memory_bytes(server: Node, model: str) -> int:
    status = server.status("1.0.0", model)
    return 0 if status is None or status.memory_bytes is None else status.memory_bytes


def refusal(server: Node, call: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        server.call(call)
    return caught.value


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


def test_promote_swaps_and_rollback_swaps_back(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(times(folder, 2), "2.0.0")
    server.promote("1.0.0")
    assert server.answering(ROW) == "1.0.0"
    server.promote("2.0.0", reason="better")
    assert server.answering(ROW) == "2.0.0"
    assert server.answer(ROW, version=CHAMPION)[1]["version"] == "2.0.0"
    assert server.in_memory() == ["1.0.0", "2.0.0"]  # the one before stands by
    assert server.call(server.lifecycle.rollback("m", by=BY)) == "1.0.0"
    assert server.answering(ROW) == "1.0.0"


def test_without_standby_the_version_before_goes_at_once(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    assert server.in_memory() == ["2.0.0"]
    assert server.call(server.lifecycle.rollback("m", by=BY)) == "1.0.0"
    assert (server.answering(ROW), server.in_memory()) == ("1.0.0", ["1.0.0"])


def test_a_standby_goes_when_its_time_is_over(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0.5)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    until(lambda: server.in_memory() == ["2.0.0"], "the standby has gone")


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


def test_what_was_not_used_makes_room(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0", "a")
    server.call(server.lifecycle.load("a", None, lazy=True, by=BY))
    server.answer(ROW, "a")
    server.until_answering(ROW, "1.0.0", "a")
    until(lambda: memory_bytes(server, "a") > 0, "it is known what it takes")
    budget = int(memory_bytes(server, "a") * 1.5)
    server.stop()

    server = node("small", memory_budget_bytes=budget)
    server.answer(ROW, "a")
    server.until_answering(ROW, "1.0.0", "a")
    server.register(times(folder, 2), "1.0.0", "b")
    server.call(server.lifecycle.load("b", None, lazy=False, by=BY))
    assert (server.answering(ROW, "b"), server.in_memory("a")) == ("1.0.0", [])
    assert server.answering(ROW, "a") == "model_loading"
    server.register(times(folder, 3), "1.0.0", "c")
    error = refusal(server, server.lifecycle.load("c", None, lazy=False, by=BY))
    assert "memory_budget_bytes" in error.detail


def budget_of(server: Node, folder: Path, models: float) -> int:
    """The memory of so many models."""
    server.register(times(folder, 1), "1.0.0", "measured")
    server.call(server.lifecycle.load("measured", None, lazy=False, by=BY))
    budget = int(memory_bytes(server, "measured") * models)
    server.call(server.lifecycle.unload("measured", None, by=BY))
    server.stop()
    return budget


def test_loads_at_the_same_time_share_the_budget(node: Callable[..., Node], folder: Path) -> None:
    server = node("small", memory_budget_bytes=budget_of(node(), folder, 1.5))
    for number, model in enumerate("abc", 2):
        server.register(times(folder, number), "1.0.0", model)
    loads = [server.begin(server.lifecycle.load(model, None, lazy=False, by=BY)) for model in "abc"]
    failures = [load.exception(DEADLINE_SECONDS) for load in loads]
    assert [failure is None for failure in failures].count(True) == 1
    assert sum(server.in_memory(model) == ["1.0.0"] for model in "abc") == 1


def test_nothing_makes_room_for_what_does_not_fit_all_the_same(node: Callable[..., Node], folder: Path) -> None:
    server = node("small", memory_budget_bytes=budget_of(node(), folder, 8.0))
    for number, model in enumerate(("lazy", "pinned", "huge"), 2):
        server.register(times(folder, number), "1.0.0", model)
    server.call(server.lifecycle.load("lazy", None, lazy=True, by=BY))
    server.until_answering(ROW, "1.0.0", "lazy")
    server.call(server.lifecycle.load("pinned", None, lazy=False, by=BY))
    known = {"inputs": (), "outputs": (), "load_seconds": 1.0, "backend": "onnx"}
    server.call(server.registry.note_loaded("huge", "1.0.0", memory_bytes=1 << 40, **known))
    error = refusal(server, server.lifecycle.load("huge", None, lazy=False, by=BY))
    assert "memory_budget_bytes" in error.detail
    assert server.in_memory("lazy") == ["1.0.0"]


def test_what_was_loaded_is_loaded_again_after_a_crash(node: Callable[..., Node], folder: Path) -> None:
    server = node(stop=False)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    server.crash()
    assert node().answering(ROW) == "2.0.0"


def test_servers_on_one_registry_follow_each_other(node: Callable[..., Node], folder: Path) -> None:
    here, there = node("here"), node("there")
    here.register(times(folder, 1), "1.0.0")
    here.promote("1.0.0")
    there.until_answering(ROW, "1.0.0")
    there.register(times(folder, 2), "2.0.0")
    there.promote("2.0.0")
    here.until_answering(ROW, "2.0.0")
    here.call(here.lifecycle.unload("m", None, by=BY))
    there.until_answering(ROW, "model_not_found")


def test_history_says_what_answered_when(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    moments = [datetime.now(UTC)]
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0", reason=f"number {number}")
        moments.append(datetime.now(UTC))
    server.call(server.lifecycle.rollback("m", by="somebody else"))
    moments.append(datetime.now(UTC))

    def answered(at: datetime) -> list[tuple[str | None, str, str]]:
        events = server.call(server.registry.history("m", at=at))
        return [(event.version, event.by, event.node) for event in events if event.kind is EventKind.ACTIVE]

    assert [answered(moment) for moment in moments] == [
        [],
        [("1.0.0", BY, "here")],
        [("2.0.0", BY, "here")],
        [("1.0.0", "somebody else", "here")],
    ]
    assert answered(moments[1] - timedelta(hours=1)) == []


def test_an_alias_that_somebody_else_has_moved_is_not_moved(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    for number in (1, 2, 3):
        server.register(times(folder, number), f"{number}.0.0")
    server.promote("1.0.0")
    error = refusal(server, server.lifecycle.set_alias("m", CHAMPION, "3.0.0", by=BY, expected="2.0.0"))
    assert error.code == "conflict"
    assert server.answering(ROW) == "1.0.0"
    server.call(server.lifecycle.set_alias("m", CHAMPION, "3.0.0", by=BY, expected="1.0.0"))
    assert server.answering(ROW) == "3.0.0"


def test_the_champion_is_not_unloaded_from_under_others(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(times(folder, 2), "2.0.0")
    server.promote("1.0.0")
    server.call(server.lifecycle.load("m", "2.0.0", lazy=False, by=BY))
    assert refusal(server, server.lifecycle.unload("m", "1.0.0", by=BY)).code == "conflict"
    server.call(server.lifecycle.unload("m", "2.0.0", by=BY))
    assert server.answering(ROW) == "1.0.0"


def test_models_of_the_configuration_are_not_the_registrys(node: Callable[..., Node], folder: Path) -> None:
    server = node(configured=frozenset({"m"}))
    server.register(times(folder, 1), "1.0.0")
    for call in (
        server.lifecycle.load("m", None, lazy=False, by=BY),
        server.lifecycle.promote("m", "1.0.0", by=BY),
        server.lifecycle.rollback("m", by=BY),
        server.lifecycle.unload("m", None, by=BY),
        server.lifecycle.set_alias("m", "staging", "1.0.0", by=BY),
    ):
        assert refusal(server, call).code == "conflict"


def test_preloaded_models_are_there_at_the_start(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.stop()
    assert node("other", preload=["m@1.0.0", "absent"]).answering(ROW) == "1.0.0"


def test_a_repository_folder_is_followed(node: Callable[..., Node], folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for number in (1, 2):
        (repository / "m" / str(number)).mkdir(parents=True)
    times(repository / "m" / "1", 1)
    server = node(repository=repository, repository_poll_s=0.05)
    server.until_answering(ROW, "1")
    times(repository / "m" / "2", 2)
    server.until_answering(ROW, "2")


def test_a_registered_version_can_be_removed_when_nothing_leads_to_it(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    assert refusal(server, server.lifecycle.remove("m", "2.0.0", by=BY)).code == "conflict"
    server.call(server.lifecycle.remove("m", "1.0.0", by=BY))
    assert refusal(server, server.lifecycle.promote("m", "1.0.0", by=BY)).code == "version_not_found"


def test_a_version_is_proven_on_live_requests_before_it_answers(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(times(folder, 2), "2.0.0")
    same = folder / "same"
    same.mkdir()
    times(same, 1)
    (same / "notes.txt").write_text("trained again")
    server.register(same, "3.0.0")
    server.promote("1.0.0")
    mirror = Mirror(share=1.0, rows=20, timeout_s=DEADLINE_SECONDS)
    assert refusal(server, server.lifecycle.promote("m", "1.0.0", by=BY, mirror=mirror)).code == "conflict"

    promoted = server.begin(server.lifecycle.promote("m", "2.0.0", by=BY, mirror=mirror))
    while not promoted.done():
        assert server.answering(ROW) == "1.0.0"
    error = promoted.exception()
    assert isinstance(error, RequestError)
    assert (error.code, "differ" in error.detail) == ("load_failed", True)
    until(lambda: server.in_memory() == ["1.0.0"], "what did not pass has left")

    promoted = server.begin(server.lifecycle.promote("m", "3.0.0", by=BY, mirror=mirror))
    answered = [server.answering(ROW)]
    while not promoted.done():
        answered.append(server.answering(ROW))
    promoted.result()
    assert set(answered) <= {"1.0.0", "3.0.0"}
    assert answered == sorted(answered)
    assert server.answering(ROW) == "3.0.0"


def test_two_servers_that_promote_at_the_same_time_leave_one_that_answers(
    node: Callable[..., Node], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = node("here"), node("there")
    for number in (1, 2):
        here.register(times(folder, number), f"{number}.0.0")
    here.promote("1.0.0")
    set_wanted = here.registry.set_wanted

    async def while_the_other_one_promotes(name: str, version: str, mode: WantedMode | None, **more: Any) -> None:
        if mode is None:  # the last thing that here does to the registry
            await asyncio.wrap_future(there.begin(there.lifecycle.promote("m", "1.0.0", by=BY)))
        await set_wanted(name, version, mode, **more)

    monkeypatch.setattr(here.registry, "set_wanted", while_the_other_one_promotes)
    here.promote("2.0.0")
    assert here.call(here.registry.version("m")).version == "1.0.0"
    assert [each.version for each in here.call(here.registry.wanted())] == ["1.0.0"]
    here.until_answering(ROW, "1.0.0")
    there.until_answering(ROW, "1.0.0")


def test_a_rollback_goes_nowhere_else_when_another_server_rolls_back_first(
    node: Callable[..., Node], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = node("here"), node("there")
    for number in (1, 2, 3):
        here.register(times(folder, number), f"{number}.0.0")
        here.promote(f"{number}.0.0")
    before = here.registry.before

    async def and_the_other_one_rolls_back(name: str) -> str:
        found = await before(name)
        await asyncio.wrap_future(there.begin(there.lifecycle.rollback("m", by=BY)))
        return found

    monkeypatch.setattr(here.registry, "before", and_the_other_one_rolls_back)
    assert refusal(here, here.lifecycle.rollback("m", by=BY)).code == "conflict"
    assert here.call(here.registry.version("m")).version == "2.0.0"


def test_a_rollback_outlives_a_restart_beside_a_repository_folder(node: Callable[..., Node], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for number in (1, 2):
        (repository / "m" / str(number)).mkdir(parents=True)
        times(repository / "m" / str(number), number)
    server = node(repository=repository, repository_poll_s=0.05)
    server.until_answering(ROW, "2")
    server.call(server.lifecycle.rollback("m", by=BY))
    server.stop()
    server = node(repository=repository, repository_poll_s=0.05)
    (repository / "other" / "1").mkdir(parents=True)
    times(repository / "other" / "1", 3)
    server.until_answering(ROW, "1", "other")  # by now it has looked at all of them
    assert server.answering(ROW) == "1"


def test_a_version_that_was_registered_and_not_promoted_is_promoted_later(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    (repository / "m" / "1").mkdir(parents=True)
    times(repository / "m" / "1", 1)
    server = node()
    server.register(repository / "m" / "1", "1")  # as a server that is killed leaves it
    server.stop()
    node(repository=repository, repository_poll_s=0.05).until_answering(ROW, "1")


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
