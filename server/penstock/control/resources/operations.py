"""What tools read: the index, the interface description and the metrics."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Response, request
from flask_restful import Resource
from prometheus_client.exposition import choose_encoder

from penstock import __version__
from penstock.control.metrics import make_registry
from penstock.control.openapi import openapi_document, with_records
from penstock.control.state import ServerState

__all__ = ["Index", "Metrics", "OpenApi"]


class Index(Resource):  # type: ignore[misc]  # flask_restful has no types
    """The front door."""

    def get(self) -> Mapping[str, object]:
        """Name the server and where to go on."""
        return {
            "name": "penstock",
            "version": __version__,
            "links": {
                "predict": "/predict",
                "models": "/models",
                "live": "/health/live",
                "ready": "/health/ready",
                "metrics": "/metrics",
                "openapi": "/openapi.json",
            },
        }


class OpenApi(Resource):  # type: ignore[misc]  # flask_restful has no types
    """The interface description."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def get(self) -> Mapping[str, object]:
        """Return the OpenAPI 3.1 document, with the records of the models that are served now."""
        return with_records(openapi_document(), self._state.models.models())


class Metrics(Resource):  # type: ignore[misc]  # flask_restful has no types
    """The counters for Prometheus."""

    def __init__(self, state: ServerState) -> None:
        self._registry = make_registry(state)

    def get(self) -> Response:
        """Return the text format, or OpenMetrics for who asks for it."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(self._registry), content_type=content_type)
