"""The model repository extension of the Open Inference Protocol, as Triton documents it.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/protocol/extension_model_repository.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flask import Response

from penstock.control.access import needs, principal
from penstock.control.reading import Members, body
from penstock.control.registered import RegisteredResource
from penstock.core.errors import RequestError
from penstock.core.status import ModelState
from penstock.registry.records import Role

__all__ = ["RepositoryIndex", "RepositoryLoad", "RepositoryUnload"]

# The extension knows these four; a version in any other state of ours is not available.
_STATES = {
    ModelState.READY: "READY",
    ModelState.LOADING: "LOADING",
    ModelState.WARMING: "LOADING",
    ModelState.DRAINING: "UNLOADING",
}


class RepositoryIndex(RegisteredResource):
    """Every model version and whether it answers."""

    @needs(Role.PREDICT)
    def post(self) -> list[Mapping[str, object]]:
        """List the versions; with `ready` only those that answer."""
        wanted = body()
        ready = wanted.flag("ready", default=False)
        wanted.done()
        return self.entries(ready=ready)

    @needs(Role.PREDICT)
    def entries(self, *, ready: bool) -> list[Mapping[str, object]]:
        """Return the versions; with `ready` only those that answer."""
        return [entry for entry in self._entries() if not ready or entry["state"] == "READY"]

    def _entries(self) -> Iterator[Mapping[str, object]]:
        known = set()
        for status in self._statuses():
            name, version = status.config.name, status.config.version
            known.add((name, version))
            state = _STATES.get(status.state, "UNAVAILABLE")
            reason = "" if state == "READY" else status.detail or str(status.state)
            yield {"name": name, "version": version, "state": state, "reason": reason}
        records, _ = self._records()
        for record in records:
            if (record.model, record.version) not in known:
                entry = {"name": record.model, "version": record.version}
                yield {**entry, "state": "UNAVAILABLE", "reason": "registered, not loaded"}


class RepositoryLoad(RegisteredResource):
    """To load a model."""

    @needs(Role.OPERATOR)
    def post(self, name: str) -> Response:
        """Load the version that answers requests for the model; an empty answer when it is ready."""
        wanted = body()
        parameters = wanted.table("parameters")
        wanted.done()
        self.load(name, parameters)
        return Response(status=200)

    @needs(Role.OPERATOR)
    def load(self, name: str, parameters: Mapping[str, object]) -> None:
        """Load the version that answers requests for the model; return when it is ready."""
        if parameters:
            raise RequestError(
                "invalid_input",
                f"parameters.{min(parameters)}: files and settings are registered (POST /models), not given when a "
                "model is loaded",
            )
        self._call(self._lifecycle.load(self._changeable(name), None, lazy=False, by=principal()))


class RepositoryUnload(RegisteredResource):
    """To unload a model."""

    @needs(Role.OPERATOR)
    def post(self, name: str) -> Response:
        """Unload all versions of the model; an empty answer when that has begun."""
        wanted = body()
        parameters = wanted.members("parameters")
        wanted.done()
        self.unload(name, parameters)
        return Response(status=200)

    @needs(Role.OPERATOR)
    def unload(self, name: str, parameters: Members | None) -> None:
        """Unload all versions of the model; return when that has begun."""
        if parameters is not None:
            parameters.flag("unload_dependents", default=False)  # no model here depends on another
            parameters.done()
        self._call(self._lifecycle.unload(self._changeable(name), None, by=principal()))
