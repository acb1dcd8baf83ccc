"""Registered models share a budget of memory: what was not used makes room."""

from collections.abc import Callable
from pathlib import Path

from tests.integration.numbered import ROW, times
from tests.integration.registered import BY, Node, memory_bytes, refusal
from tests.integration.supervised import DEADLINE_SECONDS, until


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
