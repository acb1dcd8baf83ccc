"""One version of a model."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control import descriptions
from penstock.control.access import needs, principal
from penstock.control.reading import query
from penstock.control.registered import RegisteredResource
from penstock.core.errors import RequestError
from penstock.core.status import Origin
from penstock.registry.records import Role

__all__ = ["VersionResource"]


class VersionResource(RegisteredResource):
    """One version with everything known about it, its files and its card too."""

    def get(self, name: str, version: str) -> Mapping[str, object]:
        """Describe a version, which an alias or 'latest' may stand for; RequestError (404) when there is none."""
        query().done()
        statuses = self._statuses(name)
        if any(status.origin is Origin.CONFIGURATION for status in statuses):
            found = [status for status in statuses if status.config.version == version]
            found = found or [status for status in statuses if status.latest and version == "latest"]
            if not found:
                raise RequestError(
                    "version_not_found", f"the model {name!r} has no version {version!r}; GET /models/{name} lists them"
                )
            return {"name": name, **self._descriptions(found, [])[0], "files": [], "card": ""}
        record = self._call(self._registry.version(name, version))
        records = self._call(self._registry.versions(name))
        described = self._descriptions(statuses, records)
        mine = next((each for each in described if each["version"] == record.version), None)
        if mine is None:  # removed between the two questions
            raise RequestError("version_not_found", f"the version {version!r} of {name!r} was removed just now")
        return {"name": name, **mine, **descriptions.details(record)}

    @needs(Role.ADMIN)
    def delete(self, name: str, version: str) -> Mapping[str, object]:
        """Remove a version from the registry; `conflict` while an alias points to it or it is to be in memory."""
        query().done()
        self._call(self._lifecycle.remove(self._changeable(name), version, by=principal()))
        return {"name": name, "version": version, "removed": True}
