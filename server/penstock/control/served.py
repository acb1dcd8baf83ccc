"""The model that a prediction of the control plane is for, and what such a prediction has of its request."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request

from penstock.control.problem import request_id
from penstock.control.streams.fast_path import FastPath
from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus

__all__ = ["Schema", "handed_on"]

# What the fast path takes from a head.
_HANDED_ON = (
    "X-Request-Priority",
    "X-Request-Timeout-Ms",
    "X-Penstock-Reproducible",
    "X-Penstock-Receipt",
    "Cache-Control",
    "traceparent",
    "tracestate",
)
_ROWS_MAX = 1024
# Of a batch's outputs, as JSON.
_ANSWER_BYTES = 4 << 20
_BYTES_OF_NUMBER = 16


def handed_on() -> dict[str, str]:
    """Return what of the request's head counts for its rows, too, when the data plane is asked to run them."""
    headers = {name: value for name in _HANDED_ON if (value := request.headers.get(name)) is not None}
    return headers | {"X-Request-Id": request_id()}


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
                "application/x-ndjson needs no columns",
            )
        return self._status

    @property
    def known(self) -> ModelStatus | None:
        """The model's status; None while its schema is not known."""
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
