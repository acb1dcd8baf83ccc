"""Batches that are streamed: POST /predict/batch with lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from flask import Response, request
from flask_restful import Resource

from penstock.control.reading import query
from penstock.control.state import ServerState
from penstock.control.streams.body import ClientGoneError, pieces_of
from penstock.control.streams.fast_path import FastPath, Reply
from penstock.control.streams.lines import CsvRows, CsvWriter, JsonRows, JsonWriter, LineReader, LineWriter
from penstock.control.streams.pipeline import Pipeline
from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus

__all__ = ["HANDED_ON", "Schema", "StreamedBatch"]

_JSON_LINES = "application/x-ndjson"
_CSV = "text/csv"
_NAMES = {_JSON_LINES: _JSON_LINES, "application/ndjson": _JSON_LINES, "application/jsonl": _JSON_LINES, _CSV: _CSV}
# What the fast path takes from a head, and a stream hands on with every batch.
HANDED_ON = ("X-Request-Priority", "X-Request-Timeout-Ms", "X-Penstock-Reproducible")
_ROWS_MAX = 1024
# Of a batch's outputs, as JSON.
_ANSWER_BYTES = 4 << 20
_BYTES_OF_NUMBER = 16


class StreamedBatch(Resource):  # type: ignore[misc]  # flask_restful has no types
    """Rows as lines, and their outputs as lines while others are still on their way."""

    def __init__(self, state: ServerState, fast_path: FastPath) -> None:
        self._state = state
        self._fast_path = fast_path

    # Nobody is asked for a role: the data plane lets only those get here who may predict.
    def post(self) -> Response:
        """Run the rows of a stream."""
        pieces = pieces_of(request.environ)
        asked = query()
        names = {name: value for name in ("model", "version") if (value := asked.text_or_none(name)) is not None}
        asked.done()
        model = Schema(self._state.models.models(), names, self._fast_path)
        sent = _NAMES.get(request.mimetype)
        if sent is None:
            raise RequestError("unsupported_media_type", f"lines are sent as {_JSON_LINES} or {_CSV}")
        writer = _writer(sent, model)
        pipeline = Pipeline(pieces, _reader(sent, model), writer, self._poster(names), rows_max=model.rows_max)
        answers = pipeline.answers()
        # Before the status is sent: what is wrong with all of it is a refusal, not a line.
        try:
            first = next(answers, b"")
        except ClientGoneError as error:
            raise RequestError("malformed_request", str(error.strerror)) from None  # nobody reads it
        return Response(_Closing(answers, first), 200, content_type=writer.media_type, direct_passthrough=True)

    def _poster(self, names: dict[str, str]) -> _Poster:
        headers = {name: value for name in HANDED_ON if (value := request.headers.get(name)) is not None}
        # Whoever streams waits for all of it: single requests go first.
        headers.setdefault("X-Request-Priority", "batch")
        return _Poster(self._fast_path, names, {"Content-Type": "application/json", **headers})


class _Poster:
    """Sends one stream's batches."""

    def __init__(self, fast_path: FastPath, names: dict[str, str], headers: dict[str, str]) -> None:
        self._fast_path = fast_path
        self._names = names
        self._headers = headers

    def __call__(self, body: bytes) -> Reply:
        return self._fast_path.post("/predict/batch", self._names, body, self._headers)


class _Closing:
    """An answer whose first piece is known. Closing it closes the generator behind it."""

    def __init__(self, answers: Iterator[bytes], first: bytes) -> None:
        self._answers = answers
        self._pieces = chain([first], answers)

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        """End what still runs for it."""
        close = getattr(self._answers, "close", None)
        if close is not None:
            close()


class Schema:
    """What is known of the model that a stream asks for; nothing of one that is loaded with its first request."""

    def __init__(self, statuses: Sequence[ModelStatus], names: dict[str, str], fast_path: FastPath) -> None:
        self._names = names
        self._fast_path = fast_path
        self._status = _status_of(statuses, names)

    @property
    def loaded(self) -> ModelStatus:
        """The model's status. RequestError (`model_not_found`, `model_unavailable`) when its schema is not known."""
        if self._status is None:
            # It knows why, and notes that a model was asked for which is loaded with its first request.
            reply = self._fast_path.post(
                "/predict", self._names, b'{"inputs":{}}', {"Content-Type": "application/json"}
            )
            if reply.status in (404, 503):
                raise reply.problem()
            raise RequestError(
                "model_unavailable",
                "the model's columns are not known before it is loaded; POST /models/NAME/load loads it, and "
                f"{_JSON_LINES} needs no columns",
            )
        return self._status

    @property
    def rows_max(self) -> int:
        """How many rows of it are run at a time: fewer when their outputs are large."""
        elements = 1
        for _, _, shape in self._status.outputs if self._status is not None else ():
            count = 1
            for extent in shape:
                count *= extent or 512
            elements += count
        return max(1, min(_ROWS_MAX, _ANSWER_BYTES // (_BYTES_OF_NUMBER * elements)))


def _status_of(statuses: Sequence[ModelStatus], names: dict[str, str]) -> ModelStatus | None:
    served = [status for status in statuses if status.inputs]
    name = names.get("model")
    if name is None:
        models = {status.config.name for status in served}
        if len(models) != 1:
            raise RequestError(
                "invalid_input", f"{len(models)} models are served: name one in the query, with ?model=NAME"
            )
        name = models.pop()
    version = names.get("version", "latest")
    for status in served:
        if status.config.name == name and (
            status.config.version == version or version in status.aliases or (version == "latest" and status.latest)
        ):
            return status
    return None


def _reader(media_type: str, model: Schema) -> LineReader:
    return CsvRows(model.loaded.inputs) if media_type == _CSV else JsonRows()


def _writer(sent: str, model: Schema) -> LineWriter:
    accepted = request.accept_mimetypes
    wanted = accepted.best_match([sent, *(name for name in _NAMES if name != sent)]) if accepted else sent
    if wanted is None:
        raise RequestError("not_acceptable", f"the answer comes as {_JSON_LINES} or {_CSV}; accept one of them")
    return CsvWriter(model.loaded.outputs) if _NAMES[wanted] == _CSV else JsonWriter()
