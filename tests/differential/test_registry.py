"""The registry over both databases: versions and their content, what is wanted, history, keys."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import RegistryUnavailableError
from penstock.registry import Registry
from penstock.registry.records import (
    EventKind,
    Metadata,
    Role,
    Wanted,
    WantedMode,
)
from tests.registries import Place, opened, refused, three, with_place

FULL = Metadata(
    description="Reads digits",
    owner="team",
    tags=("vision", "demo"),
    framework="scikit-learn 1.7",
    training_data="digits",
    metrics={"accuracy": 0.97, "loss": float("inf")},
    lineage={"parent": "digits@1.0.0"},
    environment={"python": "3.11"},
    card="# Digits\n\0\ud800",
)


# ---- versions --------------------------------------------------------------------------------------------------------


@with_place
async def test_a_version_is_what_was_registered(place: Place, registry: Registry) -> None:
    source = place.write("weights")
    settings = {"max_batch_size": 8, "batch_sizes": [1, 8], "queue_bytes": "1MiB", "cpus": "0-1"}
    before = datetime.now(UTC)
    made, new = await registry.register(
        "digits", source, version="1.2.3", backend="onnx", metadata=FULL, settings=settings, by="me"
    )
    assert new
    assert before <= made.registered_at <= datetime.now(UTC)
    (entry,) = made.manifest
    assert (entry.path, entry.bytes, entry.sha256) == ("model.onnx", 7, hashlib.sha256(b"weights").hexdigest())
    found = await registry.version("digits", "1.2.3")
    assert found == made
    assert found.settings == settings
    assert found.metadata.card == "# Digits\n\N{REPLACEMENT CHARACTER}?"
    assert (found.metadata.tags, found.metadata.metrics) == (FULL.tags, FULL.metrics)
    (listed,) = await registry.versions()
    assert (listed.digest, listed.manifest, listed.metadata.card) == (made.digest, (), "")
    assert listed.metadata.lineage == FULL.lineage


@with_place
async def test_content_outlives_its_source(place: Place, registry: Registry) -> None:
    source = place.write("first")
    made, _ = await registry.register("m", source, by="me")
    source.write_text("second")
    folder = await registry.fetch(made)
    assert (folder / "model.onnx").read_text() == "first"
    assert (folder / "model.onnx").stat().st_mode & 0o777 == 0o444
    assert (await registry.fetch((await registry.versions())[0])) == folder


@with_place
async def test_registering_again_is_the_same_and_anything_else_a_conflict(place: Place, registry: Registry) -> None:
    source = place.write("weights")
    made, _ = await registry.register("m", source, version="1.0", settings={"weight": 5}, by="me")
    revision = await registry.revision()
    again = await registry.register("m", source, version="1.0", settings={"weight": 5}, by="you", metadata=FULL)
    assert again == (made, False)
    assert await registry.register("m", source, settings={"weight": 5}, by="you") == (made, False)
    other = "exists with another backend or other settings"
    assert other in await refused("conflict", registry.register("m", source, version="1.0", by="me"))
    assert "is the same as 1.0" in await refused("conflict", registry.register("m", source, version="1.0.0", by="me"))
    place.write("other weights")
    detail = await refused("conflict", registry.register("m", source, version="1.0", settings={"weight": 5}, by="me"))
    assert "exists with other content" in detail
    assert await registry.revision() == revision
    assert await registry.collect_garbage() == 0
    assert [version.version for version in await registry.versions("m")] == ["1.0"]


@with_place
async def test_without_a_version_it_is_the_next_minor_one(place: Place, registry: Registry) -> None:
    for expected in ("1.0.0", "1.1.0", "1.2.0"):
        assert (await place.add(registry, "m", None, expected)).version == expected
    await place.add(registry, "m", "2.0.0-rc.1")
    assert (await place.add(registry, "m", None, "later")).version == "2.1.0"
    names = [version.version for version in await registry.versions("m")]
    assert names == ["1.0.0", "1.1.0", "1.2.0", "2.0.0-rc.1", "2.1.0"]
    await registry.remove("m", "2.1.0", by="me")
    # The name that is gone is not used again.
    assert (await place.add(registry, "m", None, "latest")).version == "2.2.0"


@with_place
async def test_names_stand_for_versions(place: Place, registry: Registry) -> None:
    assert "no model 'm'" in await refused("model_not_found", registry.version("m"))
    await refused("model_not_found", registry.versions("m"))
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        await place.add(registry, "m", version)
    await place.add(registry, "other", "7")
    assert [(await registry.version("m", ref)).version for ref in (None, "latest", "1.2.0")] == ["1.10.0"] * 2 + [
        "1.2.0"
    ]
    await registry.set_alias("m", "champion", "1.2.0", by="me")
    await registry.set_alias("m", "staging", "1.9.0", by="me")
    found = [await registry.version("m", ref) for ref in (None, "latest", "champion", "staging")]
    assert [version.version for version in found] == ["1.2.0"] * 3 + ["1.9.0"]
    assert [version.aliases for version in await registry.versions("m")] == [("champion",), ("staging",), ()]
    for missing in ("1.2", "canary", "x'; --", "\0"):
        await refused("version_not_found", registry.version("m", missing))
    (model, other) = await registry.models()
    assert (model.name, model.versions) == ("m", ("1.2.0", "1.9.0", "1.10.0"))
    assert model.aliases == {"champion": "1.2.0", "staging": "1.9.0"}
    assert (other.name, other.versions, other.aliases) == ("other", ("7",), {})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "a/b"}, "cannot name a model"),
        ({"name": ".."}, "cannot name a model"),
        ({"version": "champion"}, "is no version: expected a semantic version such as 1"),
        ({"version": "v1"}, "is no version"),
        ({"backend": "tea"}, "backend = 'tea': expected one of 'auto', 'onnx'"),
        ({"settings": {"max_batch_sise": 1}}, "did you mean 'max_batch_size'?"),
        ({"settings": {"max_batch_size": "many"}}, "max_batch_size = 'many': expected a whole number"),
        ({"settings": {"max_batch_size": 8, "batch_sizes": [1, 4]}}, "the largest of batch_sizes"),
        ({"settings": {"group": "g"}}, "a registered model cannot share workers"),
        ({"settings": {"path": "/etc/passwd"}}, "the registry knows where the artefact is"),
        ({"settings": {"version": "2"}}, "leave it out of the settings"),
        ({"settings": {"name": "n"}}, "leave it out of the settings"),
        ({"settings": {"backend": "onnx"}}, "the registration names the backend"),
    ],
)
def test_what_cannot_be_registered(tmp_path: Path, wrong: dict[str, Any], reason: str) -> None:
    async def attempt() -> None:
        async with opened(tmp_path) as (place, registry):
            given: dict[str, Any] = {"name": "m", "source": place.write("x"), "by": "me"} | wrong
            assert reason in await refused("invalid_input", registry.register(**given))
            for source in ("nothing", "source/missing"):
                await refused("invalid_input", registry.register("m", tmp_path / source, by="me"))
            assert await registry.models() == []
            assert await registry.collect_garbage() == 0
            assert [path for path in (tmp_path / "artefacts").rglob("*") if path.is_file()] == []

    asyncio.run(attempt())


@with_place
async def test_what_loading_showed_is_kept(place: Place, registry: Registry) -> None:
    await place.add(registry, "m", "1")
    inputs, outputs = [("x", "float32", (4, None))], [("y", "int64", ()), ("z", "bool", (2,))]
    for memory in (None, 1 << 40):
        await registry.note_loaded(
            "m",
            "1",
            inputs=inputs,
            outputs=outputs,
            load_seconds=2,
            memory_bytes=memory,
            backend="onnx",
            optional=["x"] if memory else [],
            nullable={"x"},
        )
        found = await registry.version("m", "1")
        assert (list(found.inputs), list(found.outputs)) == (inputs, outputs)
        assert (found.load_seconds, found.memory_bytes, found.loaded_backend) == (2.0, memory, "onnx")
        assert found.backend == "auto"
        assert (found.optional, found.nullable) == (frozenset("x" if memory else ""), frozenset("x"))


@with_place
async def test_registering_at_once_gives_each_its_own_version(place: Place, registry: Registry) -> None:
    sources = [place.write(str(number), f"{number}.onnx") for number in range(8)]
    made = await asyncio.gather(*(registry.register("m", source, by="me") for source in sources))
    assert sorted(record.version for record, _ in made) == [f"1.{minor}.0" for minor in range(8)]
    same = await asyncio.gather(*(registry.register("n", sources[0], version="3", by="me") for _ in range(8)))
    assert sum(new for _, new in same) == 1
    assert len({record.digest for record, _ in same}) == 1


# ---- removing, and content that nobody names -------------------------------------------------------------------------


@with_place
async def test_what_is_used_cannot_be_removed(place: Place, registry: Registry) -> None:
    for version in ("1", "2"):
        await place.add(registry, "m", version)
    await registry.set_alias("m", "champion", "1", by="me")
    assert "'champion' points to it" in await refused("conflict", registry.remove("m", "1", by="me"))
    await refused("conflict", registry.remove("m", None, by="me"))
    assert len(await registry.versions("m")) == 2
    await registry.set_alias("m", "champion", "2", by="me")
    await registry.set_wanted("m", "1", WantedMode.LAZY, by="me")
    assert "unload it first" in await refused("conflict", registry.remove("m", "1", by="me"))
    await registry.set_wanted("m", "1", None, by="me")
    await registry.remove("m", "1", by="me")
    await refused("version_not_found", registry.remove("m", "1", by="me"))
    await registry.set_alias("m", "champion", None, by="me")
    await registry.remove("m", None, by="me")
    await refused("model_not_found", registry.remove("m", None, by="me"))
    assert [event.kind.value for event in await registry.history("m", limit=2)] == ["removed", "alias"]


@with_place
async def test_the_name_of_a_removed_version_stands_for_nothing_else(place: Place, registry: Registry) -> None:
    first = await place.add(registry, "m", "1.5", "first")
    await registry.remove("m", "1.5", by="me")
    place.write("second")
    detail = await refused("conflict", registry.register("m", place.folder / "source", version="1.5", by="me"))
    assert "had other content before it was removed" in detail
    assert (await place.add(registry, "m", None, "second")).version == "1.6.0"
    assert (await place.add(registry, "m", "1.5", "first")).digest == first.digest


@with_place
async def test_content_goes_when_nobody_names_it(place: Place, registry: Registry) -> None:
    shared = await place.add(registry, "a", "1", "shared")
    assert (await place.add(registry, "b", "1", "shared")).digest == shared.digest
    alone = await place.add(registry, "a", "2", "alone")
    folders = [await registry.fetch(version) for version in (shared, alone)]
    await registry.remove("a", None, by="me")
    assert await registry.collect_garbage() == 1
    assert [folder.exists() for folder in folders] == [True, False]
    assert await registry.collect_garbage() == 0
    with pytest.raises(RegistryUnavailableError, match="Restore a backup"):
        await registry.fetch(alone)
    await registry.remove("b", "1", by="me")
    assert await registry.collect_garbage() == 1
    assert not folders[0].exists()


@with_place
async def test_collecting_garbage_beside_registrations_takes_nothing_away(place: Place, registry: Registry) -> None:
    done = asyncio.Event()

    async def collect() -> None:
        async with place.open() as other:
            while not done.is_set():
                await other.collect_garbage()

    collecting = asyncio.create_task(collect())
    for number in range(20):
        # Content that was there before, unnamed, is needed again.
        made = await place.add(registry, "m", "1", "weights")
        assert (await registry.fetch(made)).is_dir(), number
        await registry.remove("m", "1", by="me")
    done.set()
    await collecting


@with_place
async def test_damaged_content_is_never_given_out(place: Place, registry: Registry) -> None:
    made = await place.add(registry, "m", "1", "weights")
    file = await registry.fetch(made) / "model.onnx"
    file.chmod(0o644)
    file.write_text("weighty")
    with pytest.raises(
        RegistryUnavailableError, match=r"'m' version 1 .* is damaged: its file 'model.onnx' is not what"
    ):
        await registry.fetch(made)
    file.unlink()
    with pytest.raises(RegistryUnavailableError, match=r"is damaged: its file 'model\.onnx' is gone"):
        await registry.fetch(made)


# ---- what is wanted, history, keys -----------------------------------------------------------------------------------


@with_place
async def test_what_is_wanted_is_kept(place: Place, registry: Registry) -> None:
    await three(place, registry)
    assert await registry.wanted() == []
    await registry.set_wanted("m", "2", WantedMode.LOADED, by="me")
    await registry.set_wanted("m", "1", WantedMode.LAZY, by="me")
    revision = await registry.revision()
    await registry.set_wanted("m", "1", WantedMode.LAZY, by="me")
    assert await registry.revision() == revision
    assert await registry.wanted() == [Wanted("m", "1", WantedMode.LAZY), Wanted("m", "2", WantedMode.LOADED)]
    await registry.set_wanted("m", "1", WantedMode.LOADED, by="me")
    await registry.set_wanted("m", "2", None, by="me")
    assert await registry.revision() == revision + 2
    async with place.open() as other:
        assert await other.wanted() == [Wanted("m", "1", WantedMode.LOADED)]
        assert await other.revision() == revision + 2
    await refused("version_not_found", registry.set_wanted("m", "9", None, by="me"))


@with_place
async def test_history_is_in_order_and_in_pages(place: Place, registry: Registry) -> None:
    await place.add(registry, "m", "1")
    await place.add(registry, "other", "1")
    revision = await registry.revision()
    made = [
        await registry.note("m", "1", EventKind.LOADING, by="", node="n", detail=str(number)) for number in range(5)
    ]
    # Servers follow decisions, not each other.
    assert await registry.revision() == revision
    assert await registry.history("m", limit=3) == made[:1:-1]
    older = await registry.history("m", before=made[2].number)
    assert older[:2] == made[1::-1]
    assert [event.kind for event in older[2:]] == [EventKind.REGISTERED]
    assert await registry.history("nobody") == []


@with_place
async def test_history_says_what_was_active_on_each_node_when(place: Place, registry: Registry) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    async def note(second: int, node: str, kind: EventKind, version: str) -> None:
        await registry.note("m", version, kind, by="me", node=node, at=start + timedelta(seconds=second))

    await note(10, "a", EventKind.ACTIVE, "1")
    await note(11, "b", EventKind.ACTIVE, "1")
    # A flip: both at the same moment, in either order.
    await note(20, "a", EventKind.ACTIVE, "2")
    await note(20, "a", EventKind.INACTIVE, "1")
    await note(21, "b", EventKind.INACTIVE, "1")
    await note(21, "b", EventKind.ACTIVE, "2")
    await note(30, "a", EventKind.INACTIVE, "2")
    # Reported late.
    await note(25, "b", EventKind.ACTIVE, "3")
    await registry.note("other", "9", EventKind.ACTIVE, by="me", node="a", at=start)

    async def active(second: float) -> dict[str, str | None]:
        events = await registry.history("m", at=start + timedelta(seconds=second))
        assert len({event.node for event in events}) == len(events)
        return {event.node: event.version for event in events}

    assert await active(9) == {}
    assert await active(10) == {"a": "1"}
    assert await active(19.999999) == {"a": "1", "b": "1"}
    assert await active(20) == {"a": "2", "b": "1"}
    assert await active(21) == {"a": "2", "b": "2"}
    assert await active(24) == {"a": "2", "b": "2"}
    assert await active(25) == {"a": "2", "b": "3"}
    assert await active(1000) == {"b": "3"}


@with_place
async def test_keys_are_kept_as_hashes(place: Place, registry: Registry) -> None:
    revision = await registry.revision()
    record, text = await registry.create_key("ci", Role.OPERATOR, by="me")
    assert text.startswith(f"psk_{record.id}_")
    assert len(text.split("_", 2)[2]) >= 43
    assert record.hash == hashlib.sha256(text.encode()).digest()
    other, _ = await registry.create_key("ci", Role.ADMIN, by="me")
    assert await registry.keys() == [record, other]
    assert await registry.revision() == revision + 2
    revoked = await registry.revoke_key(record.id, by="me")
    assert revoked.revoked_at is not None
    assert await registry.revoke_key(record.id, by="you") == revoked
    assert await registry.keys() == [revoked, other]
    assert await registry.revision() == revision + 3
    await refused("not_found", registry.revoke_key("nobody", by="me"))
    for name in ("", " ", "x" * 201):
        await refused("invalid_input", registry.create_key(name, Role.PREDICT, by="me"))
    secret = text.split("_", 2)[2].encode()
    assert not [path for path in place.folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


# ---- the list, which is kept in memory -------------------------------------------------------------------------------


@with_place
async def test_a_list_shows_what_others_changed(place: Place, registry: Registry) -> None:
    async def agree(other: Registry) -> None:
        """Compare the list that was kept current with one that is read anew, and with each version by itself."""
        async with place.open() as fresh:
            expected = await fresh.versions()
            assert await registry.versions() == await other.versions() == expected
            assert await registry.models() == await fresh.models()
        for listed in expected:
            single = await registry.version(listed.model, listed.version)
            assert (single.aliases, single.inputs, single.loaded_backend, single.digest) == (
                listed.aliases,
                listed.inputs,
                listed.loaded_backend,
                listed.digest,
            )

    async with place.open() as other:
        await agree(other)
        for version in ("1", "2", "10"):
            await place.add(other, "m", version)
            await agree(other)
        await place.add(registry, "a", "1")
        await agree(other)
        for step in ("1", "2", None, "1"):
            await other.set_alias("m", "champion", step, by="me")
            await agree(other)
        await registry.set_alias("m", "champion", "10", by="me")
        await other.rollback("m", by="me")
        await agree(other)
        await other.note_loaded("m", "2", inputs=[], outputs=[], load_seconds=1, memory_bytes=1, backend="onnx")
        await agree(other)
        await other.remove("m", "2", by="me")
        await registry.remove("a", None, by="me")
        await agree(other)
        await refused("model_not_found", other.versions("a"))
        await place.add(other, "m", "2")
        await place.add(other, "a", "1")
        await agree(other)
        assert [record.version for record in await registry.versions("m")] == ["1", "2", "10"]
