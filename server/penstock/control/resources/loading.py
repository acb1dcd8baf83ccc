"""Having versions in memory, and not."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control.access import needs, principal
from penstock.control.reading import body
from penstock.control.registered import RegisteredResource
from penstock.registry.records import Role

__all__ = ["Load", "Unload"]


class Load(RegisteredResource):
    """To have a version in memory from now on."""

    @needs(Role.OPERATOR)
    def post(self, name: str) -> Mapping[str, object]:
        """Load a version and answer when it is ready; with `lazy`, note that the first request for it loads it."""
        wanted = body()
        version, lazy = wanted.name_or_none("version"), wanted.flag("lazy", default=False)
        wanted.done()
        self._call(self._lifecycle.load(self._changeable(name), version, lazy=lazy, by=principal()))
        return {"name": name, "version": version, "lazy": lazy}


class Unload(RegisteredResource):
    """To have a version in memory no longer."""

    @needs(Role.OPERATOR)
    def post(self, name: str) -> Mapping[str, object]:
        """Unload a version, without one all of the model's, once the requests they have are answered."""
        wanted = body()
        version = wanted.name_or_none("version")
        wanted.done()
        self._call(self._lifecycle.unload(self._changeable(name), version, by=principal()))
        return {"name": name, "version": version}
