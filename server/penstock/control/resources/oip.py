"""What the Open Inference Protocol tells of the server and its models; with Triton's statistics and configuration.

Health and inference are answered by the data plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from flask_restful import Resource

from penstock.control import oip
from penstock.control.reading import query
from penstock.control.registered import RegisteredResource
from penstock.control.ring_metrics import sum_by_model
from penstock.control.state import EngineStats
from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus

__all__ = ["AllStatistics", "ModelConfiguration", "ModelMetadata", "ModelStatistics", "ServerMetadata"]

_LATEST = "latest"


class ServerMetadata(Resource):  # type: ignore[misc]  # flask_restful has no types
    """The server."""

    def get(self) -> Mapping[str, object]:
        """Name the server, its version and its extensions."""
        query().done()
        return oip.server_metadata()


class _InMemory(RegisteredResource):
    """What is told of versions in memory only."""

    def _find(self, name: str, version: str | None) -> tuple[ModelStatus, Sequence[ModelStatus]]:
        """Return the version that is meant, and all of the model; RequestError when it is not in memory."""
        query().done()
        statuses = self._statuses(name)
        chosen = next((status for status in statuses if _is_meant(status, version)), None)
        if chosen is not None and oip.is_in_memory(chosen):
            return chosen, statuses
        raise self._missing(name, version, chosen)

    def _missing(self, name: str, version: str | None, chosen: ModelStatus | None) -> RequestError:
        """Say why there is nothing to tell: no such model or version, or not in memory."""
        which = name if version is None else f"{name}@{version}"
        if chosen is not None:
            why = chosen.detail or str(chosen.state)
            return RequestError(
                "model_unavailable", f"{which} is not in memory ({why}); GET /v2/models/{name}/ready says when it is"
            )
        records, _ = self._records(name)
        if not records and not self._statuses(name):
            return RequestError(
                "model_not_found", f"no model {name!r} is served; POST /v2/repository/index lists what is"
            )
        references = {ref for record in records for ref in (record.version, *record.aliases)}
        if version in (None, _LATEST) or version in references:
            return RequestError(
                "model_unavailable",
                f"{which} is registered, but not in memory; POST /v2/repository/models/{name}/load loads the model",
            )
        return RequestError(
            "version_not_found", f"the model {name!r} has no version {version!r}; GET /models/{name} lists them"
        )

    def _statistics(self, statuses: Sequence[ModelStatus]) -> Mapping[str, object]:
        rings = sum_by_model(cast(EngineStats, self._state.stats.stats())["rings"])
        by_version = {(ring["model"], ring["version"]): ring for ring in rings}
        return {
            "model_stats": [
                oip.statistics(status, by_version.get((status.config.name, status.config.version)))
                for status in statuses
                if oip.is_in_memory(status)
            ]
        }


class ModelMetadata(_InMemory):
    """A model's tensors."""

    def get(self, name: str, version: str | None = None) -> Mapping[str, object]:
        """Describe a version, by its number or an alias; without one that which answers requests."""
        return oip.metadata(*self._find(name, version))


class ModelConfiguration(_InMemory):
    """How a model is run."""

    def get(self, name: str, version: str | None = None) -> Mapping[str, object]:
        """Describe a version in the terms of Triton's model configuration."""
        return oip.config(self._find(name, version)[0])


class ModelStatistics(_InMemory):
    """What a model's rows and batches took."""

    def get(self, name: str, version: str | None = None) -> Mapping[str, object]:
        """Count since the server started: for one version, or for all of the model's that are in memory."""
        found, statuses = self._find(name, version)
        return self._statistics(statuses if version is None else [found])


class AllStatistics(_InMemory):
    """What all models' rows and batches took."""

    def get(self) -> Mapping[str, object]:
        """Count since the server started, for every version in memory."""
        query().done()
        return self._statistics(self._statuses())


def _is_meant(status: ModelStatus, version: str | None) -> bool:
    if version in (None, _LATEST):
        return status.latest
    return version == status.config.version or version in status.aliases
