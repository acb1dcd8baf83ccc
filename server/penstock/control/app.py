"""The application factory and the table of resources."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, request
from flask_restful import Api

from penstock.control.images import ImageReader
from penstock.control.problem import install_problems, request_id
from penstock.control.resources.aliases import Alias
from penstock.control.resources.batches import StreamedBatch
from penstock.control.resources.files import FilePrediction
from penstock.control.resources.grpc import GrpcMethod
from penstock.control.resources.history import History
from penstock.control.resources.keys import KeyList, KeyResource
from penstock.control.resources.loading import Load, Unload
from penstock.control.resources.models import ModelList, ModelResource
from penstock.control.resources.oip import (
    AllStatistics,
    ModelConfiguration,
    ModelMetadata,
    ModelStatistics,
    ServerMetadata,
)
from penstock.control.resources.operations import Index, Metrics, OpenApi
from penstock.control.resources.promotion import Promote, Rollback
from penstock.control.resources.repository import RepositoryIndex, RepositoryLoad, RepositoryUnload
from penstock.control.resources.versions import VersionResource
from penstock.control.state import ServerState
from penstock.control.streams.fast_path import FastPath

__all__ = ["make_app"]

# A resource and where it is: in one place, or in several.
_WITH_STATE: tuple[tuple[Any, ...], ...] = (
    (ModelList, "/models"),
    (ModelResource, "/models/<name>"),
    (VersionResource, "/models/<name>/versions/<version>"),
    (Load, "/models/<name>/load"),
    (Unload, "/models/<name>/unload"),
    (Alias, "/models/<name>/aliases/<alias>"),
    (Promote, "/models/<name>/promote"),
    (Rollback, "/models/<name>/rollback"),
    (History, "/models/<name>/history"),
    (KeyList, "/keys"),
    (KeyResource, "/keys/<id>"),
    (ModelMetadata, "/v2/models/<name>", "/v2/models/<name>/versions/<version>"),
    (ModelConfiguration, "/v2/models/<name>/config", "/v2/models/<name>/versions/<version>/config"),
    (ModelStatistics, "/v2/models/<name>/stats", "/v2/models/<name>/versions/<version>/stats"),
    (AllStatistics, "/v2/models/stats"),
    (RepositoryIndex, "/v2/repository/index"),
    (RepositoryLoad, "/v2/repository/models/<name>/load"),
    (RepositoryUnload, "/v2/repository/models/<name>/unload"),
    (Metrics, "/metrics"),
    (GrpcMethod, "/grpc/<service>/<method>"),
)


class _ControlApi(Api):  # type: ignore[misc]  # flask_restful has no types
    """Flask-RESTful without its own ideas about errors and media types."""

    def error_router(self, original_handler: Any, e: Exception) -> Any:
        """Leave every error to the application's handlers, so that all look alike."""
        return original_handler(e)

    def make_response(self, data: object, *args: Any, **kwargs: Any) -> Response:
        """Answer 406 where Flask-RESTful would send JSON to a client that refuses it; no Accept allows anything."""
        kwargs["fallback_mediatype"] = None if request.accept_mimetypes else "application/json"
        response: Response = super().make_response(data, *args, **kwargs)
        return response


def make_app(state: ServerState) -> Flask:
    """Build the control plane's WSGI application over `state`; it serves nothing before a server calls it."""
    app = Flask(__name__, static_folder=None)
    # A route has one spelling; another is a 404, never a redirect that leaks the private socket's name.
    app.url_map.merge_slashes = False
    app.url_map.redirect_defaults = False
    install_problems(app)
    app.before_request(_options_of_the_server)
    app.after_request(_finish)

    api = _ControlApi(app, default_mediatype=None)
    api.representation("application/json")(_to_json)
    given = {"resource_class_kwargs": {"state": state}}
    api.add_resource(Index, "/")
    api.add_resource(ServerMetadata, "/v2")
    for resource, *paths in _WITH_STATE:
        api.add_resource(resource, *paths, **given)
    api.add_resource(OpenApi, "/openapi.json", **given)
    if state.fast_path is not None:
        streaming = {"state": state, "fast_path": FastPath(state.fast_path), "images": ImageReader()}
        api.add_resource(StreamedBatch, "/predict/batch", resource_class_kwargs=streaming)
        api.add_resource(FilePrediction, "/predict", resource_class_kwargs=streaming)
    return app


def _to_json(data: object, code: int, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(data, ensure_ascii=False), code, headers or {}, content_type="application/json")


def _options_of_the_server() -> Response | None:
    """Answer `OPTIONS *`, which asks about the server and not about a route (RFC 9110, section 9.3.7)."""
    if request.method == "OPTIONS" and request.path == "/*":
        return Response(status=200, headers={"Allow": "DELETE, GET, HEAD, OPTIONS, POST, PUT"})
    return None


def _finish(response: Response) -> Response:
    if request.method == "OPTIONS" and response.status_code == 200:
        # As the data plane answers for its own routes. Nothing but Allow is worth keeping of an empty body.
        response = Response(status=204, headers={"Allow": response.headers["Allow"]})
        response.headers.pop("Content-Type", None)
    response.headers["X-Request-Id"] = request_id()
    # As the data plane writes it; Werkzeug shouts.
    response.status = f"{response.status_code} {HTTPStatus(response.status_code).phrase}"
    return response
