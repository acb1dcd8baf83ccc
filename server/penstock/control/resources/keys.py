"""Keys: who may do what. A key's text is shown once, when it is made; nobody can read it afterwards."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control import descriptions
from penstock.control.access import needs, principal
from penstock.control.reading import body, query
from penstock.control.registered import RegisteredResource
from penstock.registry.records import Role

__all__ = ["KeyList", "KeyResource"]


class KeyList(RegisteredResource):
    """Every key; making another."""

    @needs(Role.ADMIN)
    def get(self) -> Mapping[str, object]:
        """List the keys, revoked ones too, without what opens anything."""
        query().done()
        return {"keys": [descriptions.key(record) for record in self._call(self._registry.keys())]}

    @needs(Role.ADMIN)
    def post(self) -> tuple[Mapping[str, object], int, Mapping[str, str]]:
        """Make a key, which holds at once."""
        wanted = body()
        name, role = wanted.name("name"), wanted.one_of("role", Role)
        wanted.done()
        record, text = self._call(self._registry.create_key(name, role, by=principal()))
        self._call(self._lifecycle.keys_changed())
        return {**descriptions.key(record), "key": text}, 201, {"Cache-Control": "no-store"}


class KeyResource(RegisteredResource):
    """One key."""

    @needs(Role.ADMIN)
    def delete(self, id: str) -> Mapping[str, object]:
        """Revoke a key, which opens nothing from now on."""
        query().done()
        record = self._call(self._registry.revoke_key(id, by=principal()))
        self._call(self._lifecycle.keys_changed())
        return descriptions.key(record)
