"""Requests of the soak: what is sent, and what may come back."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import numpy as np

from bench.models import POISON, W1_WIDTHS
from bench.wire import Reply, request_bytes
from bench.workloads import Encoding, Row, decode, encode, open_session, same

__all__ = ["ONNX_MODEL", "PYTHON_MODEL_NAME", "Expectation", "Request", "RequestMaker"]

ONNX_MODEL = "mlp"
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
    encoding: Encoding
    answer: Row | None
    status: int = 200
    excuses: frozenset[str] = frozenset()

    def judge(self, reply: Reply) -> Verdict:
        """Compare a reply with what it must be."""
        if reply.headers.get("x-request-id") != self.request_id:
            return Verdict.WRONG  # another request's
        if reply.status == self.status:
            if self.answer is None:
                return Verdict.REFUSED
            return Verdict.RIGHT if same(decode(self.encoding, reply.body), self.answer) else Verdict.WRONG
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
    known: tuple[Row, Row]
    prefix: str
    made: int = field(default=0)

    @staticmethod
    def known_rows(model: Path) -> tuple[Row, Row]:
        """Compute answers with ONNX Runtime, one row at a time, as no server does."""
        rows = np.random.default_rng(11).uniform(-2, 2, (ROWS, W1_WIDTHS[0])).astype(np.float32)
        session = open_session(model)
        return rows, np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows])

    def make(self) -> Request:
        """Make the next request."""
        self.made += 1
        request_id = f"{self.prefix}-{self.made}"
        sent = self.random.choice(list(Encoding))
        wanted = self.random.choice(list(Encoding))
        if self.random.random() < BAD_SHARE:
            return self._bad(request_id, sent)
        if self.random.random() < PYTHON_SHARE:
            return self._python(request_id, sent, wanted)
        index = self.random.randrange(ROWS)
        rows, answers = self.known
        data = self._predict(request_id, ONNX_MODEL, rows[index], sent, wanted)
        return Request(data, Expectation(request_id, wanted, answers[index]))

    def _python(self, request_id: str, sent: Encoding, wanted: Encoding) -> Request:
        row = np.array([self.random.uniform(-9, 9) for _ in range(PYTHON_WIDTH)], dtype=np.float32)
        poisoned = self.random.random() < 0.05
        if poisoned:
            row[0] = POISON
        data = self._predict(request_id, PYTHON_MODEL_NAME, row, sent, wanted)
        answer, status = (None, 500) if poisoned else (row * 2, 200)
        return Request(data, Expectation(request_id, wanted, answer, status, PYTHON_EXCUSES))

    def _predict(self, request_id: str, model: str, row: Row, sent: Encoding, wanted: Encoding) -> bytes:
        fields = {"X-Request-Id": request_id, "Content-Type": sent.media_type, "Accept": wanted.media_type}
        target = f"/predict?model={model}" if sent is Encoding.RAW else "/predict"
        body = encode(sent, model, row)
        if self.random.random() < 0.2:
            return request_bytes("POST", target, None, fields | {"Transfer-Encoding": "chunked"}) + self._chunks(body)
        return request_bytes("POST", target, body, fields)

    def _chunks(self, body: bytes) -> bytes:
        pieces = []
        while body:
            size = self.random.randint(1, len(body))
            pieces.append(b"%x\r\n%s\r\n" % (size, body[:size]))
            body = body[size:]
        return b"".join(pieces) + b"0\r\n\r\n"

    def _bad(self, request_id: str, sent: Encoding) -> Request:
        """Make a request that is refused without harm to its connection."""
        row = np.zeros(W1_WIDTHS[0], dtype=np.float32)
        short = {
            Encoding.JSON: b'{"model":"mlp","inputs":[1,2,3]}',
            Encoding.MSGPACK: bytes(msgpack.packb({"model": ONNX_MODEL, "inputs": [1, 2, 3]})),
            Encoding.RAW: row.tobytes()[:-4],
        }
        unknown = encode(sent, "unknown", row)
        cut = encode(sent, ONNX_MODEL, row)[: self.random.randrange(1, 40)]
        status, body, model = self.random.choice(
            [
                (422, short[sent], ONNX_MODEL),
                (404, unknown, "unknown"),
                (422 if sent is Encoding.RAW else 400, cut, ONNX_MODEL),
            ]
        )
        fields = {"X-Request-Id": request_id, "Content-Type": sent.media_type}
        target = f"/predict?model={model}" if sent is Encoding.RAW else "/predict"
        return Request(request_bytes("POST", target, body, fields), Expectation(request_id, sent, None, status))
