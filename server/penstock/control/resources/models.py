"""Every model, and one model with its versions: what this server serves and what the registry knows beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

from penstock.control import descriptions
from penstock.control.access import needs, principal
from penstock.control.reading import query
from penstock.control.registered import RegisteredResource, latest_of
from penstock.control.registration import received
from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus, Origin
from penstock.registry.records import ModelRecord, Role, VersionRecord

__all__ = ["ModelList", "ModelResource"]

_PAGE_MAX = 10_000

_Json = dict[str, Any]


class ModelList(RegisteredResource):
    """Every model version, in short; registering another."""

    def get(self) -> Mapping[str, object]:
        """List the model versions; with `limit` so many of them, `after` the one that the page before ended with."""
        asked = query()
        limit = asked.whole_or_none("limit", 1, _PAGE_MAX)
        after = asked.text_or_none("after")
        asked.done()
        if limit is None and after is None:
            records, failure = self._records()
            entries = list(_listed(self._statuses(), records))
            return {"models": entries, "next": None, "registry_failure": failure}
        return self._page(limit or _PAGE_MAX, after)

    def _page(self, limit: int, after: str | None) -> Mapping[str, object]:
        """List a part; of the versions that are not in it no more is read than their names."""
        statuses = self._statuses()
        found, failure = self._ask(lambda registry: registry.models())
        models = found or []
        names = list(_names(statuses, models))
        start = _position(names, after)
        wanted = names[start : start + limit]
        records: list[VersionRecord] = []
        for model in {model.name for model in models} & {name.rpartition("@")[0] for name in wanted}:
            records += self._records(model)[0]
        entries = {_name(entry["name"], entry["version"]): entry for entry in _listed(statuses, records)}
        more = start + len(wanted) < len(names)
        return {
            # One may have been removed since.
            "models": [entries[name] for name in wanted if name in entries],
            "next": wanted[-1] if more else None,
            "registry_failure": failure,
        }

    @needs(Role.ADMIN)
    def post(self) -> tuple[Mapping[str, object], int, Mapping[str, str]]:
        """Register a version: 201 when that made one, 200 when the same was registered before."""
        registry = self._registry
        with received(self._state.uploads, self._call) as (wanted, source):
            record, made = self._call(
                registry.register(
                    self._changeable(wanted.name),
                    source,
                    version=wanted.version,
                    backend=wanted.backend,
                    metadata=wanted.metadata,
                    settings=wanted.settings,
                    by=principal(),
                )
            )
        answer = {
            "name": record.model,
            "version": record.version,
            "registration": descriptions.registration(record),
            **descriptions.details(record),
        }
        location = f"/models/{quote(record.model)}/versions/{quote(record.version)}"
        return answer, 201 if made else 200, {"Location": location}


class ModelResource(RegisteredResource):
    """One model with everything known about its versions."""

    def get(self, name: str) -> Mapping[str, object]:
        """Describe a model; RequestError (404) when there is none of this name."""
        query().done()
        statuses = self._statuses(name)
        records, failure = self._records(name)
        if not statuses and not records:
            unknown = "" if failure is None else f", and the registry cannot be asked: {failure}"
            raise RequestError("model_not_found", f"no model {name!r} is served{unknown}; GET /models lists them")
        return {
            "name": name,
            "aliases": {alias: record.version for record in records for alias in record.aliases},
            "versions": self._descriptions(statuses, records),
            "registry_failure": failure,
        }

    @needs(Role.ADMIN)
    def delete(self, name: str) -> Mapping[str, object]:
        """Remove a model with all its versions from the registry."""
        query().done()
        self._call(self._lifecycle.remove(self._changeable(name), None, by=principal()))
        return {"name": name, "removed": True}


def _listed(statuses: Sequence[ModelStatus], records: Sequence[VersionRecord]) -> Iterator[_Json]:
    """Put what is configured first, as it is configured, then what is registered, by name and version."""
    mine = {(status.config.name, status.config.version): status for status in statuses}
    active = {status.config.name for status in statuses if status.latest}
    for status in statuses:
        if status.origin is Origin.CONFIGURATION:
            yield descriptions.summary(status)
            del mine[status.config.name, status.config.version]
    for name, group in groupby(records, key=lambda record: record.model):
        versions = list(group)
        latest = None if name in active else latest_of(versions)
        for record in versions:
            loaded = mine.pop((name, record.version), None)
            yield (
                descriptions.summary_of_registered(record, latest=record is latest)
                if loaded is None
                else descriptions.summary(loaded)
            )
    # Removed from the registry, or not to be seen there at the moment.
    yield from map(descriptions.summary, mine.values())


def _names(statuses: Sequence[ModelStatus], models: Sequence[ModelRecord]) -> Iterator[str]:
    """Name the versions in the order of _listed()."""
    mine = {_name(status.config.name, status.config.version): status.origin for status in statuses}
    yield from (name for name, origin in mine.items() if origin is Origin.CONFIGURATION)
    registered = {_name(model.name, version): None for model in models for version in model.versions}
    yield from registered
    yield from (name for name, origin in mine.items() if origin is not Origin.CONFIGURATION and name not in registered)


def _name(model: str, version: str) -> str:
    return f"{model}@{version}"


def _position(names: Sequence[str], after: str | None) -> int:
    """Return where the page starts."""
    if after is None:
        return 0
    try:
        return names.index(after) + 1
    except ValueError:
        raise RequestError(
            "invalid_input", f"after: {after[:150]!r} is not in the list (any more); begin again without 'after'"
        ) from None
