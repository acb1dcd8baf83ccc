"""Names that point to versions."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control import descriptions
from penstock.control.access import needs, principal
from penstock.control.reading import Members, body, query, read_name
from penstock.control.registered import RegisteredResource
from penstock.core.errors import RequestError
from penstock.registry.records import UNSET, Role, Unset

__all__ = ["Alias"]


class Alias(RegisteredResource):
    """One alias of a model."""

    def get(self, name: str, alias: str) -> Mapping[str, object]:
        """Say where an alias points; RequestError (404) when there is none."""
        query().done()
        for record in self._call(self._registry.versions(name)):
            if alias in record.aliases:
                return {"name": name, "alias": alias, "version": record.version}
        raise RequestError(
            "version_not_found", f"the model {name!r} has no alias {alias!r}; GET /models/{name} lists them"
        )

    @needs(Role.OPERATOR)
    def put(self, name: str, alias: str) -> Mapping[str, object]:
        """Point an alias to a version; `conflict` when it is not `expected` that it points to now."""
        wanted = body()
        version = wanted.name("version")
        allow_schema_change = wanted.flag("allow_schema_change", default=False)
        return self._set(name, alias, version, wanted, allow_schema_change=allow_schema_change)

    @needs(Role.OPERATOR)
    def delete(self, name: str, alias: str) -> Mapping[str, object]:
        """Take an alias away."""
        return self._set(name, alias, None, query())

    def _set(
        self, name: str, alias: str, version: str | None, wanted: Members, *, allow_schema_change: bool = False
    ) -> Mapping[str, object]:
        reason = wanted.text("reason", "")
        expected: str | Unset | None = wanted.name_or_none("expected") if wanted.has("expected") else UNSET
        wanted.done()
        change = self._lifecycle.set_alias(
            self._changeable(name),
            read_name(alias, "the alias"),
            version,
            by=principal(),
            reason=reason,
            expected=expected,
            allow_schema_change=allow_schema_change,
        )
        return descriptions.alias_change(self._call(change))
