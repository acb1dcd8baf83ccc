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
from penstock.registry.records import Role, VersionRecord

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
        records, failure = self._records()
        listed = list(_listed(self._statuses(), records))
        start = _position(listed, after)
        page = listed[start:] if limit is None else listed[start : start + limit]
        more = start + len(page) < len(listed)
        return {"models": page, "next": _cursor(page[-1]) if more else None, "registry_failure": failure}

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


def _cursor(entry: _Json) -> str:
    return f"{entry['name']}@{entry['version']}"


def _position(listed: Sequence[_Json], after: str | None) -> int:
    """Return where the page starts."""
    if after is None:
        return 0
    for index, entry in enumerate(listed):
        if _cursor(entry) == after:
            return index + 1
    raise RequestError(
        "invalid_input", f"after: {after[:150]!r} is not in the list (any more); begin again without 'after'"
    )
