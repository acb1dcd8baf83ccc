"""Files and forms for predictions: POST /predict with a body that the fast path does not read."""

from __future__ import annotations

from flask import Response, request
from flask_restful import Resource

from penstock.control.files import FORM, inputs_of, parts_of
from penstock.control.problem import request_id
from penstock.control.reading import query
from penstock.control.resources.batches import HANDED_ON, Schema
from penstock.control.state import ServerState
from penstock.control.streams.fast_path import FastPath
from penstock.core.errors import RequestError

__all__ = ["FilePrediction"]


class FilePrediction(Resource):  # type: ignore[misc]  # flask_restful has no types
    """One row whose inputs come as files."""

    def __init__(self, state: ServerState, fast_path: FastPath) -> None:
        self._state = state
        self._fast_path = fast_path

    # Nobody is asked for a role: the data plane lets only those get here who may predict.
    def post(self) -> Response:
        """Make a row of what was sent, and have the fast path run it."""
        asked = query()
        taken = {name: asked.text_or_none(name) for name in ("model", "version", "output")}
        names = {name: value for name, value in taken.items() if value is not None}
        asked.done()
        if request.mimetype != FORM and not request.mimetype.startswith(("text/", "image/")):
            raise RequestError("unsupported_media_type", f"{request.mimetype[:80]!r} is not taken as a file")
        schema = Schema(self._state.models.models(), names, self._fast_path)
        body = inputs_of(parts_of(request.get_data(), request.content_type or ""), schema.loaded.inputs)
        headers = {name: value for name in HANDED_ON if (value := request.headers.get(name)) is not None}
        if accept := request.headers.get("Accept"):
            headers["Accept"] = accept
        headers |= {"Content-Type": "application/json", "X-Request-Id": request_id()}
        reply = self._fast_path.post("/predict", names, body, headers)
        response = Response(reply.body, reply.status, content_type=reply.media_type)
        if reply.retry_after is not None:
            response.headers["Retry-After"] = reply.retry_after
        return response
