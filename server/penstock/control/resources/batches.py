"""Batches that are streamed: POST /predict/batch with lines or record batches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import quote, urlencode

from flask import Response, request
from flask_restful import Resource
from werkzeug.datastructures import MIMEAccept

from penstock.control.images import ImageGoal, ImageReader
from penstock.control.reading import query
from penstock.control.resources.files import JSON, MSGPACK, ImageDocuments, explained, goals_of
from penstock.control.served import Schema, handed_on
from penstock.control.state import ServerState
from penstock.control.streams.body import ClientGoneError, pieces_of
from penstock.control.streams.coding import decoded, encoded
from penstock.control.streams.fast_path import FastPath, Reply
from penstock.control.streams.job import Job
from penstock.control.streams.lines import CsvRows, CsvWriter, EventWriter, JsonRows, JsonWriter, LineReader, LineWriter
from penstock.control.streams.pipeline import Pipeline
from penstock.core.errors import RequestError
from penstock.core.events import EVENT_STREAM, EVENT_STREAM_HEADERS
from penstock.core.problems import PROBLEMS

__all__ = ["StreamedBatch"]

_JSON_LINES = "application/x-ndjson"
_CSV = "text/csv"
_NAMES = {_JSON_LINES: _JSON_LINES, "application/ndjson": _JSON_LINES, "application/jsonl": _JSON_LINES, _CSV: _CSV}
_ARROW = "application/vnd.apache.arrow.stream"
_COLUMNS = {_ARROW: "arrow", "application/vnd.apache.parquet": "parquet"}
_COLUMN_ANSWERS = {**dict.fromkeys(_NAMES, "lines"), _ARROW: "arrow", EVENT_STREAM: "events"}
# Read by a process of its own: this one loads neither Arrow nor NumPy.
_JOB = "penstock.jobs.columns"


class StreamedBatch(Resource):  # type: ignore[misc]  # flask_restful has no types
    """Rows as lines or columns, and their outputs likewise while others are still on their way."""

    def __init__(self, state: ServerState, fast_path: FastPath, images: ImageReader) -> None:
        self._state = state
        self._fast_path = fast_path
        self._images = images

    # Nobody is asked for a role: the data plane lets only those get here who may predict.
    def post(self) -> Response:
        """Run the rows of a stream."""
        if request.mimetype in (JSON, *MSGPACK):
            return ImageDocuments(self._state, self._fast_path, self._images).predict("/predict/batch")
        if request.mimetype not in _NAMES and request.mimetype not in _COLUMNS:
            raise RequestError(
                "unsupported_media_type",
                f"batches come as JSON, msgpack or raw rows, or are streamed as {', '.join([*_NAMES, *_COLUMNS])}; a "
                "file or a form is one row: send it to /predict",
            )
        pieces = pieces_of(request.environ)
        coding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            pieces = decoded(pieces, coding.removeprefix("x-"))
        asked = query()
        names = {name: value for name in ("model", "version") if (value := asked.text_or_none(name)) is not None}
        asked.done()
        model = Schema(self._state.models.models(), names, self._fast_path)
        headers = handed_on()
        # Whoever streams waits for all of it: single requests go first.
        headers.setdefault("X-Request-Priority", "batch")
        if (columns := _COLUMNS.get(request.mimetype)) is not None:
            answers = Job(_JOB, self._order(columns, model, names, headers), pieces).answers()
            media_type = _first(answers).decode()
            return _answer(b"", answers, media_type)
        sent = _NAMES[request.mimetype]
        writer = _writer(sent, model)
        pictures = _Pictures(self._images, model)
        poster = _Poster(self._fast_path, names, {"Content-Type": "application/json", **headers}, pictures)
        answers = Pipeline(pieces, _reader(sent, model), writer, poster, rows_max=model.rows_max).answers()
        return _answer(_first(answers), answers, writer.media_type)

    def _order(self, columns: str, model: Schema, names: dict[str, str], headers: dict[str, str]) -> dict[str, object]:
        """Return what the job is to do."""
        answer = _COLUMN_ANSWERS[_wanted(_ARROW, [*(name for name in _NAMES if name != _CSV), EVENT_STREAM])]
        spool = self._state.uploads
        if spool is not None:
            spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            "socket": str(self._state.fast_path),
            "rows_target": f"/predict/batch?{urlencode(names)}",
            "tensors_target": _infer_target(model.loaded.config.name, names.get("version")),
            "headers": headers,
            "format": columns,
            "answer": answer,
            "inputs": model.loaded.inputs,
            "record": model.loaded.record is not None,
            "optional": sorted(model.loaded.optional),
            "nullable": sorted(model.loaded.nullable),
            "outputs": model.loaded.outputs,
            "rows_max": model.rows_max,
            "spool": None if spool is None else str(spool),
        }


def _infer_target(name: str, version: str | None) -> str:
    model = f"/v2/models/{quote(name, safe='')}"
    return f"{model}/infer" if version is None else f"{model}/versions/{quote(version, safe='')}/infer"


def _first(answers: Iterator[bytes]) -> bytes:
    """Take the first piece before the status is sent: what is wrong with all of it is a refusal, not a line."""
    try:
        return next(answers, b"")
    except ClientGoneError as error:
        raise RequestError("malformed_request", str(error.strerror)) from None  # nobody reads it


def _answer(first: bytes, answers: Iterator[bytes], media_type: str) -> Response:
    # What the data plane has made of Accept-Encoding and its settings.
    coding = request.headers.get("X-Penstock-Coding")
    headers = {"Content-Encoding": coding} if coding else {}
    if media_type == EVENT_STREAM:
        headers |= EVENT_STREAM_HEADERS
    return Response(_Closing(answers, first, coding), 200, headers, content_type=media_type, direct_passthrough=True)


class _Poster:
    """Sends one stream's batches."""

    def __init__(
        self, fast_path: FastPath, names: dict[str, str], headers: dict[str, str], pictures: _Pictures
    ) -> None:
        self._fast_path = fast_path
        self._names = names
        self._headers = headers
        self._pictures = pictures

    def __call__(self, body: bytes) -> Reply:
        try:
            body, faults = self._pictures.decoded(body)
        except RequestError as error:  # that of this batch
            problem = {"code": error.code, "detail": error.detail}
            return Reply(PROBLEMS[error.code].status, json.dumps(problem).encode(), "application/problem+json", ())
        reply = self._fast_path.post("/predict/batch", self._names, body, self._headers)
        return explained(reply, faults) if faults else reply


class _Pictures:
    """Puts tensors in the place of the pictures of records, where a model has such."""

    def __init__(self, images: ImageReader, model: Schema) -> None:
        self._images = images
        self._goals: list[ImageGoal] = []
        status = model.known
        if status is not None and status.fits:
            self._goals = [goal for goal in goals_of(status) if goal.fit is not None]
        names = (json.dumps(goal.name.rpartition(".")[2], ensure_ascii=False) for goal in self._goals)
        self._field = re.compile(f'(?:{"|".join(map(re.escape, names))})[ \\t]*:[ \\t]*["{{]'.encode())

    def decoded(self, body: bytes) -> tuple[bytes, list[dict[str, Any]]]:
        """Return the body of a batch, and the rows whose pictures are none."""
        if not self._goals or self._field.search(body) is None:
            return body, []
        with self._images.document(body) as document:
            return document.with_tensors(self._goals, rows=True)


class _Closing:
    """An answer whose first piece is known. Closing it closes the generator behind it."""

    def __init__(self, answers: Iterator[bytes], first: bytes, coding: str | None) -> None:
        self._answers = answers
        self._pieces: Iterator[bytes] = chain([first], answers)
        if coding is not None:
            self._pieces = encoded(self._pieces, coding)

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """End what still runs for it."""
        close = getattr(self._answers, "close", None)
        if close is not None:
            close()


def _reader(media_type: str, model: Schema) -> LineReader:
    if media_type != _CSV:
        return JsonRows()
    loaded = model.loaded
    # A picture is a column of base64, whatever becomes of it.
    inputs = [(each[0], "str", ()) if each[0] in loaded.fits else each for each in loaded.inputs]
    return CsvRows(
        inputs,
        optional=loaded.optional,
        nullable=loaded.nullable,
        texts=loaded.texts,
        is_record=loaded.record is not None,
    )


def _writer(sent: str, model: Schema) -> LineWriter:
    wanted = _wanted(sent, [*(name for name in _NAMES if name != sent), EVENT_STREAM])
    if wanted == EVENT_STREAM:
        return EventWriter()
    return CsvWriter(model.loaded.outputs) if wanted == _CSV else JsonWriter()


def _wanted(usual: str, others: list[str]) -> str:
    """Return the media type of the answer; `usual` where Accept leaves the choice."""
    # Parameters, such as a charset, choose nothing.
    accepted = MIMEAccept((name.partition(";")[0].strip(), quality) for name, quality in request.accept_mimetypes)
    wanted = accepted.best_match([usual, *others]) if accepted else usual
    if wanted is None:
        there = sorted({_NAMES.get(name, name) for name in (usual, *others)})
        raise RequestError("not_acceptable", f"the answer comes as {', '.join(there)}; accept one of them")
    return wanted
