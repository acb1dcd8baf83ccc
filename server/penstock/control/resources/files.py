"""Files, forms and images for predictions: POST /predict with a body that the fast path does not read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Response, request
from flask_restful import Resource

from penstock.control.files import FORM, Part, inputs_of, parts_of
from penstock.control.images import ImageReader, goal_of
from penstock.control.reading import query
from penstock.control.served import Schema, handed_on
from penstock.control.state import ServerState
from penstock.control.streams.fast_path import FastPath, Reply
from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS
from penstock.core.status import ModelStatus, Tensor

__all__ = ["JSON", "FilePrediction", "ImageDocuments"]

JSON = "application/json"


class FilePrediction(Resource):  # type: ignore[misc]  # flask_restful has no types
    """One row whose inputs come as files."""

    def __init__(self, state: ServerState, fast_path: FastPath, images: ImageReader) -> None:
        self._state = state
        self._fast_path = fast_path
        self._images = images

    # Nobody is asked for a role: the data plane lets only those get here who may predict.
    def post(self) -> Response:
        """Make a row of what was sent, and have the fast path run it."""
        if request.mimetype == JSON:
            return ImageDocuments(self._state, self._fast_path, self._images).predict("/predict")
        names = _names()
        if request.mimetype != FORM and not request.mimetype.startswith(("text/", "image/")):
            raise RequestError("unsupported_media_type", f"{request.mimetype[:80]!r} is not taken as a file")
        status = Schema(self._state.models.models(), names, self._fast_path).loaded

        def decode(part: Part, tensor: Tensor) -> bytes | None:
            goal = goal_of(tensor, status)
            return None if goal is None else self._images.tensor(part.content, goal, part.media_type)

        body = inputs_of(parts_of(request.get_data(), request.content_type or ""), status.inputs, decode)
        return _answer(self._fast_path.post("/predict", names, body, _headers()))


class ImageDocuments:
    """Bodies of JSON in which images stand as base64: the data plane hands on those that may be such."""

    def __init__(self, state: ServerState, fast_path: FastPath, images: ImageReader) -> None:
        self._state = state
        self._fast_path = fast_path
        self._images = images

    def predict(self, route: str) -> Response:
        """Put tensors in the place of images, and have the fast path run what that makes."""
        names = _names()
        content = request.get_data()
        faults: list[dict[str, Any]] = []
        with self._images.document(content) as document:
            status = self._status({**document.names, **names})
            if status is not None:
                goals = [goal for tensor in status.inputs if (goal := _goal_or_none(tensor, status)) is not None]
                content, faults = document.with_tensors(goals, rows=route == "/predict/batch")
        reply = self._fast_path.post(route, names, content, _headers())
        return _answer(_explained(reply, faults) if faults else reply)

    def _status(self, names: Mapping[str, str]) -> ModelStatus | None:
        """Return the model's status; None when there is none: the fast path says why."""
        named = {name: value for name, value in names.items() if name != "output"}
        with suppress(RequestError):
            return Schema(self._state.models.models(), named, self._fast_path).loaded
        return None


def _names() -> dict[str, str]:
    asked = query()
    taken = {name: asked.text_or_none(name) for name in ("model", "version", "output")}
    asked.done()
    return {name: value for name, value in taken.items() if value is not None}


def _headers() -> dict[str, str]:
    accept = request.headers.get("Accept")
    return handed_on() | {"Content-Type": JSON} | ({"Accept": accept} if accept else {})


def _answer(reply: Reply) -> Response:
    return Response(reply.body, reply.status, list(reply.fields), content_type=reply.media_type)


def _goal_or_none(tensor: Tensor, status: ModelStatus) -> Any:
    # An input whose channels nobody has declared is for tensors only; a field of base64 is one.
    with suppress(RequestError):
        return goal_of(tensor, status)
    return None


def _explained(reply: Reply, faults: list[dict[str, Any]]) -> Reply:
    """Say of rows whose images cannot be used what is wrong with the images."""
    if reply.status != 200 or reply.media_type != JSON:
        return reply
    document = json.loads(reply.body)
    by_row = {fault["row"]: fault for fault in faults}
    outputs = document.get("outputs", ())
    if any(row >= len(outputs) or outputs[row] is not None for row in by_row):
        raise RequestError("internal_error", "a row ran without its image; its answer is withheld")
    for error in document.get("errors", ()):
        fault = by_row.get(error["row"])
        if fault is not None:
            error |= {"code": fault["code"], "status": PROBLEMS[fault["code"]].status, "detail": fault["detail"]}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(reply.status, body, reply.media_type, reply.fields)
