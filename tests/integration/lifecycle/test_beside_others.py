"""Servers on one registry follow each other, and one of two changes at the same time stands."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.registry.records import AliasRecord
from tests.integration.numbered import ROW, times
from tests.integration.registered import BY, Node, refusal


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


def test_two_servers_that_promote_at_the_same_time_leave_one_that_answers(
    node: Callable[..., Node], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = node("here"), node("there")
    for number in (1, 2):
        here.register(times(folder, number), f"{number}.0.0")
    here.promote("1.0.0")
    set_alias = here.registry.set_alias

    async def and_the_other_one_promotes(*arguments: Any, **more: Any) -> AliasRecord:
        changed = await set_alias(*arguments, **more)  # the last thing that here does to the registry
        await asyncio.wrap_future(there.begin(there.lifecycle.promote("m", "1.0.0", by=BY)))
        return changed

    monkeypatch.setattr(here.registry, "set_alias", and_the_other_one_promotes)
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
