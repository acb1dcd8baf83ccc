"""How long a list of many registered versions takes."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from penstock.registry import Registry
from penstock.registry.manifest import digest_of
from penstock.registry.records import ManifestEntry, Metadata, VersionRecord
from penstock.registry.versions_table import insert
from penstock.store import open_database

__all__ = ["LIST_MS_MAX", "ListTimes", "time_lists"]

LIST_MS_MAX = 50.0
_MODELS = 100
_LISTS = 20


@dataclass(frozen=True, slots=True)
class ListTimes:
    """Milliseconds of a list: the first after the start, a later one, one after somebody else's change, a model's."""

    versions: int
    first: float
    later: float
    changed: float
    model: float

    def __str__(self) -> str:
        """Return a line for a terminal."""
        return (
            f"{self.versions} versions: first list {self.first:.1f} ms, later {self.later:.2f} ms, "
            f"after a change {self.changed:.2f} ms, of one model {self.model:.2f} ms (limit {LIST_MS_MAX:.0f} ms)"
        )


async def time_lists(store: str, folder: Path, versions: int) -> ListTimes:
    """Fill an empty database and list what is in it."""
    await _fill(store, versions)
    registry = await Registry.open(store, str(folder / "artefacts"), folder / "cache")
    other = await Registry.open(store, str(folder / "artefacts"), folder / "cache")
    try:
        first = await _time(registry)
        later = [await _time(registry) for _ in range(_LISTS)]
        model = [await _time(registry, "model-7") for _ in range(_LISTS)]
        changed = []
        for turn in range(_LISTS):
            await other.set_alias("model-7", "champion", f"1.{turn % 2}.0", by="bench")
            changed.append(await _time(registry))
    finally:
        await registry.close()
        await other.close()
    return ListTimes(versions, first, *map(statistics.median, (later, changed, model)))


async def _time(registry: Registry, model: str | None = None) -> float:
    start = time.perf_counter()
    await registry.versions(model)
    return (time.perf_counter() - start) * 1e3


async def _fill(store: str, versions: int) -> None:
    database = await open_database(store)
    async with database.transaction() as transaction:
        for number in range(versions):
            await insert(transaction, _version(number))
    await database.close()


def _version(number: int) -> VersionRecord:
    manifest = (ManifestEntry("model.onnx", number, f"{number:064x}"),)
    return VersionRecord(
        model=f"model-{number % _MODELS}",
        version=f"1.{number // _MODELS}.0",
        digest=digest_of(manifest),
        bytes=number,
        registered_at=datetime.now(UTC),
        registered_by="bench",
        metadata=Metadata(
            description=f"Run {number} of the nightly training",
            owner="forecasting",
            tags=("nightly", "gradient-boosting"),
            framework="scikit-learn 1.7",
            training_data=f"snapshot-{number}",
            metrics={"accuracy": 1 - 1 / (number + 2), "loss": 1 / (number + 1)},
            lineage={"parent": f"model-{number % _MODELS}"},
            environment={"python": "3.11.7", "scikit-learn": "1.7.2", "numpy": "2.3.1"},
            card=f"# Run {number}\n" * 50,
        ),
        settings={"max_batch_size": 64, "slo_ms": 10},
        manifest=manifest,
        inputs=(("features", "float32", (64,)),),
        outputs=(("label", "int64", ()), ("probabilities", "float32", (10,))),
    )
