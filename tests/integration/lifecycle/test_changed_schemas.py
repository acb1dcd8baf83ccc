"""A version that takes or gives something else than the one that answers takes its place only when that is said."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from penstock.registry.records import CHAMPION, AliasRecord
from tests import models
from tests.integration.numbered import ROW, times
from tests.integration.registered import BY, Node, kinds, refusal
from tests.integration.supervised import until

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def gives(folder: Path, name: str, inputs: Mapping[str, Any], outputs: Sequence[str] = ("y",)) -> Path:
    """Return a model whose outputs are its first input; `inputs` by name: element type and size of a row."""
    (kind, size), first = next(iter(inputs.values())), next(iter(inputs))
    return models.save(
        folder / f"{name}.onnx",
        [helper.make_node("Identity", [first], [output]) for output in outputs],
        [models.tensor(each, *what) for each, what in inputs.items()],
        [models.tensor(each, kind, size) for each in outputs],
        {},
    )


def in_a_folder(folder: Path, name: str, plan: Mapping[str, Any]) -> Path:
    """Return a model with a plan."""
    path = folder / name
    path.mkdir()
    gives(path, "model", {"features": (FLOAT, 2)})
    (path / "processing.json").write_text(json.dumps({"format": 1, **plan}))
    return path


CHANGED = [
    ({"z": (FLOAT, 4)}, ["y"], ["input 'x' is gone", "input 'z' is new, and has to be sent"]),
    ({"x": (DOUBLE, 4)}, ["y"], ["input 'x' is float64 [4], and was float32 [4]", "output 'y' is float64 [4]"]),
    ({"x": (FLOAT, 5)}, ["y"], ["input 'x' is float32 [5], and was float32 [4]"]),
    ({"x": (FLOAT, 4)}, ["w"], ["output 'y' is gone"]),
    ({"x": (FLOAT, 4), "mask": (FLOAT, 4)}, ["y"], ["input 'mask' is new, and has to be sent"]),
]


def test_a_version_that_would_break_clients_is_not_promoted(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.promote("1.0.0")
    for number, (inputs, outputs, told) in enumerate(CHANGED, start=2):
        version = f"{number}.0.0"
        server.register(gives(folder, f"m{number}", inputs, outputs), version)
        error = refusal(server, server.lifecycle.promote("m", version, by=BY))
        assert error.code == "conflict"
        for text in (f"version {version} of 'm' would break clients of 1.0.0", *told, "allow_schema_change"):
            assert text in error.detail
        assert server.answering(ROW) == "1.0.0"
    error = refusal(server, server.lifecycle.set_alias("m", CHAMPION, "2.0.0", by=BY))
    assert (error.code, server.answering(ROW)) == ("conflict", "1.0.0")
    assert [each.version for each in server.call(server.registry.wanted())] == ["1.0.0"]


def test_whoever_says_so_promotes_it_and_a_rollback_asks_nobody(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(gives(folder, "other", {"z": (FLOAT, 4)}), "2.0.0")
    server.promote("1.0.0")
    server.promote("2.0.0", allow_schema_change=True)
    assert server.answer({"z": ROW})[1]["version"] == "2.0.0"
    server.promote("2.0.0")  # it answers already
    assert server.call(server.lifecycle.rollback("m", by=BY)) == "1.0.0"
    assert server.answering(ROW) == "1.0.0"
    server.call(server.lifecycle.set_alias("m", CHAMPION, "2.0.0", by=BY, allow_schema_change=True))
    assert server.answer({"z": ROW})[1]["version"] == "2.0.0"


def test_another_output_and_aliases_of_ones_own_break_nobody(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(gives(folder, "more", {"x": (FLOAT, 4)}, ["y", "w"]), "1.1.0")
    server.register(gives(folder, "other", {"z": (FLOAT, 4)}), "2.0.0")
    server.promote("1.0.0")
    server.call(server.lifecycle.set_alias("m", "staging", "2.0.0", by=BY))
    server.promote("1.1.0")
    assert server.answering(ROW) == "1.1.0"


def test_what_only_the_registry_knows_of_the_version_that_answers_is_enough(
    node: Callable[..., Node], folder: Path
) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(gives(folder, "other", {"z": (FLOAT, 4)}), "2.0.0")
    server.promote("1.0.0")
    server.call(server.lifecycle.unload("m", None, by=BY))
    assert server.in_memory() == []
    assert refusal(server, server.lifecycle.promote("m", "2.0.0", by=BY)).code == "conflict"


def test_a_refusal_leaves_the_standby_of_a_rollback_and_lets_go_of_what_it_has_loaded(
    node: Callable[..., Node], folder: Path
) -> None:
    server = node(standby_s=3600.0)
    server.register(times(folder, 1), "1.0.0")
    server.register(gives(folder, "other", {"z": (FLOAT, 4)}), "2.0.0")
    server.register(gives(folder, "third", {"w": (FLOAT, 4)}), "3.0.0")
    server.promote("1.0.0")
    server.promote("2.0.0", allow_schema_change=True)
    for version in ("1.0.0", "3.0.0"):
        assert refusal(server, server.lifecycle.promote("m", version, by=BY)).code == "conflict"
        server.call(server.lifecycle.expire_standbys())
        until(lambda: server.in_memory() == ["1.0.0", "2.0.0"], "what was loaded for it is let go of")
    until(lambda: bool(server.call(server.registry.version("m", "3.0.0")).inputs), "the registry knows what it takes")
    loads = kinds(server).count(("loading", "3.0.0"))
    assert refusal(server, server.lifecycle.promote("m", "3.0.0", by=BY)).code == "conflict"
    assert (loads, kinds(server).count(("loading", "3.0.0"))) == (1, 1)  # by now the registry knows enough
    assert server.call(server.lifecycle.rollback("m", by=BY)) == "1.0.0"
    assert server.answering(ROW) == "1.0.0"


@pytest.mark.parametrize(("theirs", "code"), [("2.0.0", "conflict"), ("1.1.0", None)])
def test_a_version_takes_the_place_only_of_the_one_it_was_compared_with(
    node: Callable[..., Node], folder: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, code: str | None
) -> None:
    here, there = node("here"), node("there")
    here.register(times(folder, 1), "1.0.0")
    here.register(times(folder, 2), "1.1.0")
    here.register(gives(folder, "other", {"z": (FLOAT, 4)}), "2.0.0")
    here.promote("1.0.0")
    make_champion = here.lifecycle._make_champion

    async def after_the_other_one_has_promoted(*compared: Any) -> AliasRecord:
        promote = there.lifecycle.promote("m", theirs, by=BY, allow_schema_change=True)
        await asyncio.wrap_future(there.begin(promote))
        return await make_champion(*compared)

    monkeypatch.setattr(here.lifecycle, "_make_champion", after_the_other_one_has_promoted)
    if code is None:
        here.promote("1.1.0")
    else:
        assert refusal(here, here.lifecycle.promote("m", "1.1.0", by=BY)).code == code
    assert here.call(here.registry.version("m")).version == theirs
    assert [each.version for each in here.call(here.registry.wanted())] == [theirs]


RECORD = {"age": {"type": ["number", "null"]}, "sex": {"enum": ["female", "male"]}}
FEATURES = [
    {"column": "age", "steps": [{"impute": "constant", "value": 30}]},
    {"column": "sex"},
]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"note": {"type": "number", "default": 0}}, None),
        ({"note": {"type": "number"}}, "input 'note' is new, and has to be sent"),
        ({"age": {"type": "number"}}, "input 'age' may no longer be null"),
        ({"sex": {"type": "number"}}, "input 'sex' is float64 [], and was str []"),
    ],
)
@pytest.mark.parametrize("unloaded", [False, True])
def test_the_fields_of_records_are_what_clients_send(
    node: Callable[..., Node], folder: Path, fields: Mapping[str, Any], told: str | None, unloaded: bool
) -> None:
    server = node()
    server.register(in_a_folder(folder, "one", {"record": RECORD, "features": FEATURES}), "1.0.0")
    server.register(in_a_folder(folder, "two", {"record": RECORD | fields, "features": FEATURES}), "1.1.0")
    server.promote("1.0.0")
    if unloaded:
        server.call(server.lifecycle.unload("m", None, by=BY))
        assert server.in_memory() == []
    if told is None:
        server.promote("1.1.0")
    else:
        assert told in refusal(server, server.lifecycle.promote("m", "1.1.0", by=BY)).detail


def test_a_repository_folder_registers_what_would_break_clients_and_no_more(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    for number in (1, 2, 3):
        (repository / "m" / str(number)).mkdir(parents=True)
    times(repository / "m" / "1", 1)
    server = node(repository=repository, repository_poll_s=0.05)
    server.until_answering(ROW, "1")
    gives(repository / "m" / "2", "model", {"z": (FLOAT, 4)})
    (repository / "other" / "1").mkdir(parents=True)
    times(repository / "other" / "1", 3)
    server.until_answering(ROW, "1", "other")  # by now it has looked at all of them
    assert server.answering(ROW) == "1"
    times(repository / "m" / "3", 3)
    server.until_answering(ROW, "3")
