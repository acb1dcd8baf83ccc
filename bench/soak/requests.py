"""Requests of the soak: what is sent, and what may come back."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

import msgpack  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from bench.models import POISON, W1_WIDTHS
from bench.scenario import open_session
from bench.wire import Reply, request_bytes
from penstock.load.dialects import Dialect, PenstockJson, PenstockMsgpack, PenstockRaw
from penstock.load.rows import Row, TensorSpec, same

__all__ = ["ONNX_MODEL", "PYTHON_MODEL_NAME", "Expectation", "KnownRows", "Request", "RequestMaker"]

# Rows of the ONNX model, and the answers to them.
KnownRows: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]

ONNX_MODEL = "mlp"
DIALECTS: tuple[Dialect, ...] = (PenstockJson(), PenstockMsgpack(), PenstockRaw())
PYTHON_MODEL_NAME = "double"
PYTHON_WIDTH = 8
ROWS = 512  # different rows of the ONNX model, whose answers are computed beforehand
BAD_SHARE = 0.08
PYTHON_SHARE = 0.3

# A Python model's worker may die with its rows, the default for models that may have side effects; then it is away.
PYTHON_EXCUSES = frozenset({"worker_died", "model_unavailable"})


class Verdict(StrEnum):
    """What a reply turned out to be."""

    RIGHT = "right"
    REFUSED = "refused"  # a bad request, with the code it had to have
    EXCUSED = "excused"  # a Python model's worker was killed
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a reply must be: an answer, or a refusal with a status."""

    request_id: str
    dialect: Dialect
    answer: NDArray[np.float32] | None
    status: int = 200
    excuses: frozenset[str] = frozenset()

    def judge(self, reply: Reply) -> Verdict:
        """Compare a reply with what it must be."""
        if reply.headers.get("x-request-id") != self.request_id:
            return Verdict.WRONG  # another request's
        if reply.status == self.status:
            if self.answer is None:
                return Verdict.REFUSED
            outputs = [TensorSpec("y", "float32", self.answer.shape)]
            right = same(self.dialect.answer(reply.body, outputs), {"y": self.answer})
            return Verdict.RIGHT if right else Verdict.WRONG
        excused = reply.status == 503 and reply.json()["code"] in self.excuses
        return Verdict.EXCUSED if excused else Verdict.WRONG


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes to send and what must come back."""

    data: bytes
    expected: Expectation


@dataclass(slots=True)
class RequestMaker:
    """Makes requests of every kind from a seed. `known` are rows of the ONNX model with their answers."""

    random: random.Random
    known: KnownRows
    prefix: str
    made: int = field(default=0)

    @staticmethod
    def known_rows(model: Path) -> KnownRows:
        """Compute answers with ONNX Runtime, one row at a time, as no server does."""
        rows = np.random.default_rng(11).uniform(-2, 2, (ROWS, W1_WIDTHS[0])).astype(np.float32)
        session = open_session(model)
        return rows, np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])

    def make(self) -> Request:
        """Make the next request."""
        self.made += 1
        request_id = f"{self.prefix}-{self.made}"
        sent = self.random.choice(DIALECTS)
        wanted = self.random.choice(DIALECTS)
        if self.random.random() < BAD_SHARE:
            return self._bad(request_id, sent)
        if self.random.random() < PYTHON_SHARE:
            return self._python(request_id, sent, wanted)
        index = self.random.randrange(ROWS)
        rows, answers = self.known
        data = self._predict(request_id, ONNX_MODEL, {"x": rows[index]}, sent, wanted)
        return Request(data, Expectation(request_id, wanted, answers[index]))

    def _python(self, request_id: str, sent: Dialect, wanted: Dialect) -> Request:
        row = np.array([self.random.uniform(-9, 9) for _ in range(PYTHON_WIDTH)], dtype=np.float32)
        poisoned = self.random.random() < 0.05
        if poisoned:
            row[0] = POISON
        data = self._predict(request_id, PYTHON_MODEL_NAME, {"x": row}, sent, wanted)
        answer, status = (None, 500) if poisoned else (row * 2, 200)
        return Request(data, Expectation(request_id, wanted, answer, status, PYTHON_EXCUSES))

    def _predict(self, request_id: str, model: str, row: Row, sent: Dialect, wanted: Dialect) -> bytes:
        request = sent.request(model, row)
        accept = wanted.request(model, row).headers["Accept"]
        fields = {**request.headers, "X-Request-Id": request_id, "Accept": accept}
        if self.random.random() < 0.2:
            head = request_bytes("POST", request.target, None, fields | {"Transfer-Encoding": "chunked"})
            return head + self._chunks(request.body)
        return request_bytes("POST", request.target, request.body, fields)

    def _chunks(self, body: bytes) -> bytes:
        pieces = []
        while body:
            size = self.random.randint(1, len(body))
            pieces.append(b"%x\r\n%s\r\n" % (size, body[:size]))
            body = body[size:]
        return b"".join(pieces) + b"0\r\n\r\n"

    def _bad(self, request_id: str, sent: Dialect) -> Request:
        """Make a request that is refused without harm to its connection."""
        row = {"x": np.zeros(W1_WIDTHS[0], dtype=np.float32)}
        is_raw = isinstance(sent, PenstockRaw)
        short = {
            "json": b'{"model":"mlp","inputs":[1,2,3]}',
            "msgpack": bytes(msgpack.packb({"model": ONNX_MODEL, "inputs": [1, 2, 3]})),
            "raw": row["x"].tobytes()[:-4],
        }
        whole = sent.request(ONNX_MODEL, row)
        unknown = sent.request("unknown", row)
        status, target, body = self.random.choice(
            [
                (422, whole.target, short[sent.name]),
                (404, unknown.target, unknown.body),
                (422 if is_raw else 400, whole.target, whole.body[: self.random.randrange(1, 40)]),
            ]
        )
        fields = {"X-Request-Id": request_id, "Content-Type": whole.headers["Content-Type"]}
        return Request(request_bytes("POST", target, body, fields), Expectation(request_id, sent, None, status))
