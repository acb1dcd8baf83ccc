"""Aliases and rollbacks of the registry, over both databases."""

from penstock.registry import Registry
from penstock.registry.records import Wanted, WantedMode
from tests.registries import Place, refused, three, with_place


@with_place
async def test_an_alias_moves_only_from_where_it_is_expected(place: Place, registry: Registry) -> None:
    await three(place, registry)
    record = await registry.set_alias("m", "champion", "1", by="me", reason="first", expected=None)
    assert (record.version, record.previous, record.by, record.reason) == ("1", None, "me", "first")
    detail = await refused("conflict", registry.set_alias("m", "champion", "2", by="me", expected=None))
    assert "points to 1, not nowhere: somebody moved it meanwhile" in detail
    await refused("conflict", registry.set_alias("m", "champion", "3", by="me", expected="2"))
    record = await registry.set_alias("m", "champion", "2", by="me", expected="1")
    assert (record.version, record.previous) == ("2", "1")
    record = await registry.set_alias("m", "champion", None, by="me", expected="2")
    assert (record.version, record.previous) == (None, "2")
    assert (await registry.models())[0].aliases == {}
    changes = await registry.alias_changes("m", "champion")
    assert [(change.previous, change.version) for change in changes] == [("2", None), ("1", "2"), (None, "1")]


@with_place
async def test_setting_an_alias_to_where_it_is_changes_nothing(place: Place, registry: Registry) -> None:
    await three(place, registry)
    first = await registry.set_alias("m", "champion", "1", by="me", reason="why")
    revision = await registry.revision()
    assert await registry.set_alias("m", "champion", "1", by="you", expected="1") == first
    assert await registry.revision() == revision
    assert len(await registry.alias_changes("m", "champion")) == 1


@with_place
async def test_what_cannot_be_an_alias(place: Place, registry: Registry) -> None:
    await place.add(registry, "m", "1")
    for alias in ("latest", "1", "1.0", "2.0.0-rc.1", "", "a b", "..", "x" * 65):
        await refused("invalid_input", registry.set_alias("m", alias, "1", by="me"))
    await refused("version_not_found", registry.set_alias("m", "champion", "2", by="me"))
    await refused("version_not_found", registry.set_alias("m", "champion", "latest", by="me"))
    await refused("model_not_found", registry.set_alias("n", "champion", "1", by="me"))
    await refused("conflict", registry.set_alias("m", "staging", None, by="me"))


@with_place
async def test_rollbacks_go_back_one_change_each(place: Place, registry: Registry) -> None:
    await three(place, registry)

    async def promote(version: str) -> None:
        await registry.set_alias("m", "champion", version, by="me")

    async def back() -> str | None:
        expected = await registry.before("m")
        record = await registry.rollback("m", by="me")
        assert record.version == expected
        return record.version

    await refused("conflict", registry.rollback("m", by="me"))
    await promote("1")
    assert "pointed nowhere before" in await refused("conflict", registry.rollback("m", by="me"))
    await promote("2")
    await promote("3")
    assert [await back(), await back()] == ["2", "1"]
    await refused("conflict", registry.rollback("m", by="me"))
    # From 1, where it was rolled back to, on to 3: before it was 1.
    await promote("3")
    assert await back() == "1"
    await refused("conflict", registry.rollback("m", by="me"))
    await promote("2")
    await promote("1")
    assert [await back(), await back()] == ["2", "1"]


@with_place
async def test_a_rollback_may_be_conditional_and_needs_what_it_goes_to(place: Place, registry: Registry) -> None:
    await three(place, registry)
    for version in ("1", "2"):
        await registry.set_alias("m", "staging", version, by="me")
    await refused("conflict", registry.rollback("m", alias="staging", by="me", expected="3"))
    await registry.remove("m", "1", by="me")
    assert "1 before, which is removed" in await refused("conflict", registry.rollback("m", alias="staging", by="me"))
    await refused("model_not_found", registry.rollback("n", by="me"))


@with_place
async def test_what_is_wanted_in_memory_moves_with_the_alias_or_not_at_all(place: Place, registry: Registry) -> None:
    await three(place, registry)
    await registry.set_wanted("m", "3", WantedMode.LAZY, by="me")
    lazily = Wanted("m", "3", WantedMode.LAZY)
    await registry.set_alias("m", "champion", "1", by="me", loaded=True)
    assert await registry.wanted() == [Wanted("m", "1", WantedMode.LOADED), lazily]
    await registry.set_alias("m", "champion", "2", by="me", loaded=True)
    assert await registry.wanted() == [Wanted("m", "2", WantedMode.LOADED), lazily]
    revision = await registry.revision()
    await refused("conflict", registry.set_alias("m", "champion", "1", by="me", expected="3", loaded=True))
    await refused("conflict", registry.rollback("m", by="me", expected="3", loaded=True))
    assert await registry.revision() == revision
    assert await registry.wanted() == [Wanted("m", "2", WantedMode.LOADED), lazily]
    await registry.rollback("m", by="me", loaded=True)
    assert await registry.wanted() == [Wanted("m", "1", WantedMode.LOADED), lazily]
