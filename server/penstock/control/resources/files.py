"""Files, forms and images for predictions: POST /predict with a body that the fast path does not read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Response, request
from flask_restful import Resource

from penstock.control.files import FORM, Part, inputs_of, parts_of
from penstock.control.images import ImageGoal, ImageReader, goal_of
from penstock.control.reading import query
from penstock.control.served import Schema, handed_on
from penstock.control.state import ServerState
from penstock.control.streams.fast_path import FastPath, Reply
from penstock.core.errors import RequestError
from penstock.core.packed import packed as packed_json
from penstock.core.problems import PROBLEMS
from penstock.core.status import ModelStatus, Tensor

__all__ = ["JSON", "MSGPACK", "FilePrediction", "ImageDocuments", "explained", "goals_of"]

JSON = "application/json"
MSGPACK = ("application/msgpack", "application/vnd.msgpack", "application/x-msgpack")


class FilePrediction(Resource):  # type: ignore[misc]  # flask_restful has no types
    """One row whose inputs come as files."""

    def __init__(self, state: ServerState, fast_path: FastPath, images: ImageReader) -> None:
        self._state = state
        self._fast_path = fast_path
        self._images = images

    # Nobody is asked for a role: the data plane lets only those get here who may predict.
    def post(self) -> Response:
        """Make a row of what was sent, and have the fast path run it."""
        if request.mimetype in (JSON, *MSGPACK):
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
    """Bodies of JSON or msgpack in which images stand: the data plane hands on those that may be such."""

    def __init__(self, state: ServerState, fast_path: FastPath, images: ImageReader) -> None:
        self._state = state
        self._fast_path = fast_path
        self._images = images

    def predict(self, route: str) -> Response:
        """Put tensors in the place of images, and have the fast path run what that makes."""
        names = _names()
        content = request.get_data()
        packed = request.mimetype in MSGPACK
        rows = route == "/predict/batch"
        with self._images.document(content, packed=packed) as document:
            status = self._status({**document.names, **names})
            # Of msgpack JSON comes back whatever the model is.
            if status is not None or packed:
                content, faults = document.with_tensors([] if status is None else goals_of(status), rows=rows)
            else:
                faults = []
        headers = _headers()
        if packed:
            headers.setdefault("Accept", request.mimetype)
        if not faults:
            return _answer(self._fast_path.post(route, names, content, headers))
        # The data plane knows nothing of what is wrong with images, and here JSON is what can be read.
        wanted = next((name for name in MSGPACK if name in headers.get("Accept", "")), None)
        if wanted is not None:
            headers["Accept"] = JSON
        reply = self._fast_path.post(route, names, content, headers)
        if not rows:
            return _answer(_explained_one(reply, faults))
        reply = explained(reply, faults)
        if reply.status == 200 and wanted is not None:
            reply = Reply(reply.status, packed_json(json.loads(reply.body)), wanted, reply.fields)
        return _answer(reply)

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


def goals_of(status: ModelStatus) -> list[ImageGoal]:
    """Return what images have to be for those inputs of a model that take them."""
    goals = []
    for tensor in status.inputs:
        # An input whose channels nobody has declared is for tensors only; a field of base64 is one.
        with suppress(RequestError):
            goals.append(goal_of(tensor, status))
    return [goal for goal in goals if goal is not None]


def explained(reply: Reply, faults: list[dict[str, Any]]) -> Reply:
    """Say of rows whose images cannot be used what is wrong with the images."""
    if reply.status != 200 or reply.media_type != JSON:
        return reply
    document = json.loads(reply.body)
    by_row: dict[int, list[dict[str, Any]]] = {}
    for fault in faults:
        by_row.setdefault(fault["row"], []).append(fault)
    outputs = document.get("outputs", ())
    if any(row >= len(outputs) or outputs[row] is not None for row in by_row):
        raise RequestError("internal_error", "a row ran without its image; its answer is withheld")
    for error in document.get("errors", ()):
        if (found := by_row.get(error["row"])) is not None:
            error |= _told(error, found)
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(reply.status, body, reply.media_type, reply.fields)


def _explained_one(reply: Reply, faults: list[dict[str, Any]]) -> Reply:
    """Say the same of a record that came alone."""
    if reply.status == 200:
        raise RequestError("internal_error", "a row ran without its image; its answer is withheld")
    document = json.loads(reply.body)
    if "errors" not in document:
        return reply
    document |= _told(document, faults)
    document |= {"type": f"/problems/{document['code']}", "title": PROBLEMS[document["code"]].title}
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(document["status"], body, reply.media_type, reply.fields)


def _told(error: Mapping[str, Any], faults: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is to be said of a row. What the data plane found in a record beside its pictures counts, too."""
    code = faults[0]["code"]
    told = {"code": code, "status": PROBLEMS[code].status, "detail": faults[0]["detail"]}
    if "errors" not in error:
        return told
    pictures = [
        {
            "field": fault["field"],
            "rule": "contentMediaType",
            "detail": fault["detail"].removeprefix(f"inputs.{fault['field']}: "),
        }
        for fault in faults
    ]
    named = {fault["field"] for fault in faults}
    errors = [*pictures, *(other for other in error["errors"] if other["field"] not in named)]
    detail = "; ".join(f"{each['field']}: {each['detail']}" for each in errors)
    return told | {"detail": detail, "errors": errors}
