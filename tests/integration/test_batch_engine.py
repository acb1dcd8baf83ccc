"""What a request may ask of the batch engine: many rows, a receipt, a priority, an answer that depends on nobody."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.wire import Wire, request_bytes
from tests.integration.gate import Gate
from tests.integration.supervised import until
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
RECEIPT = {"X-Penstock-Receipt": "true"}
ROW = struct.pack("<4f", 1, 2, 3, 4)


def random_rows(rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, width), dtype=np.float32)


@pytest.mark.parametrize("rows", [2, 3, 64, 65, 300])
def test_raw_rows_come_back_in_order(wire: Wire, rows: int) -> None:
    values = random_rows(rows, 4)
    alone = [wire.ask("POST", "/predict?model=affine", row.tobytes(), RAW).body for row in values[:3]]
    reply = wire.ask("POST", "/predict?model=affine", values.tobytes(), RAW)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/octet-stream")
    answers = np.frombuffer(reply.body, np.float32).reshape(rows, -1)
    assert [answer.tobytes() for answer in answers[:3]] == alone
    assert len({answer.tobytes() for answer in answers}) == rows


def test_one_failed_row_fails_its_request_alone(server: Server, connect: Callable[..., Wire]) -> None:
    values = np.abs(random_rows(40, 4))
    values[27, 0] = -1
    failing, passing = connect(server), connect(server)
    for _ in range(20):
        failing.send(request_bytes("POST", "/predict?model=echo", values.tobytes(), RAW))
        passing.send(request_bytes("POST", "/predict?model=echo", np.abs(values).tobytes(), RAW))
        refused = failing.reply()
        assert (refused.status, refused.json()["code"]) == (500, "model_error")
        assert "row 27: " in refused.json()["detail"] and "negative" in refused.json()["detail"]
        assert passing.reply().body == np.abs(values).tobytes()


def test_many_rows_are_answered_raw(wire: Wire) -> None:
    reply = wire.ask("POST", "/predict?model=affine", ROW * 2, {"Content-Type": RAW["Content-Type"]})
    assert (reply.status, reply.json()["code"]) == (406, "not_acceptable")
    assert "2 rows" in reply.json()["detail"]


def test_receipt(wire: Wire) -> None:
    reply = wire.ask("POST", "/predict?model=affine", ROW, RAW | RECEIPT)
    assert reply.status == 200
    numbers = {name: float(reply.headers[f"x-penstock-{name}"]) for name in ("queue-us", "batch-us", "run-us")}
    assert numbers["batch-us"] >= numbers["run-us"] >= 0 and numbers["queue-us"] >= 0
    assert int(reply.headers["x-penstock-batch-rows"]) >= 1
    assert 0 <= float(reply.headers["x-penstock-padding"]) < 1
    assert reply.headers["x-penstock-sealed"] in {"idle", "full", "deadline", "delay", "requeued", "reproducible"}
    assert reply.headers["x-penstock-model-version"] == "1"
    assert reply.headers["x-penstock-instance"].isdigit()
    for headers in (RAW, RAW | {"X-Penstock-Receipt": "false"}):
        silent = wire.ask("POST", "/predict?model=affine", ROW, headers)
        assert not [name for name in silent.headers if name.startswith("x-penstock-")]


@pytest.mark.parametrize("priority", ["interactive", "normal", "batch"])
def test_every_priority_is_answered(wire: Wire, priority: str) -> None:
    asked = wire.ask("POST", "/predict?model=affine", ROW, RAW | {"X-Request-Priority": priority})
    assert (asked.status, asked.body) == (200, wire.ask("POST", "/predict?model=affine", ROW, RAW).body)


def test_reproducible_answer_depends_on_nobody(server: Server, connect: Callable[..., Wire]) -> None:
    """Bit for bit, whatever runs beside it; a plain row may differ in its last bits."""
    width = 32
    row = random_rows(1, width).tobytes()
    mine, *others = [connect(server) for _ in range(9)]
    asked = request_bytes("POST", "/predict?model=mlp", row, RAW | RECEIPT | {"X-Penstock-Reproducible": "true"})
    mine.send(asked)
    alone = mine.reply()
    assert alone.status == 200
    crowd = request_bytes("POST", "/predict?model=mlp", random_rows(16, width).tobytes(), RAW)
    for _ in range(50):
        for other in others:
            other.send(crowd)
        mine.send(asked)
        reply = mine.reply()
        assert (reply.status, reply.body) == (200, alone.body)
        assert reply.headers["x-penstock-batch-rows"] == "1"
        assert reply.headers["x-penstock-sealed"] == "reproducible"
        assert [other.reply().status for other in others] == [200] * len(others)


def test_who_would_be_late_is_refused_at_once(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate
) -> None:
    """Behind a long queue a short deadline is refused before the queue has moved, and patience is not."""
    server = serve("--max-batch-size", "1", models={"gated": gate.path})
    held = connect(server)
    for _ in range(50):
        assert held.ask("POST", "/predict", ROW, RAW).status == 200
    held.send(request_bytes("POST", "/predict", struct.pack("<4f", Gate.HOLD, 0, 0, 0), RAW))
    gate.wait_until_reached()
    waiting = connect(server)
    rows = 500
    waiting.send(request_bytes("POST", "/predict", ROW * rows, RAW))
    hurried = connect(server)
    refused = hurried.ask("POST", "/predict", ROW, RAW | {"X-Request-Timeout-Ms": "1"})
    # A queue that has been filled in the meantime, or has not yet: the time-out itself is another answer.
    while refused.status == 504:
        refused = hurried.ask("POST", "/predict", ROW, RAW | {"X-Request-Timeout-Ms": "1"})
    assert (refused.status, refused.json()["code"]) == (503, "deadline_unreachable")
    assert int(refused.headers["retry-after"]) >= 1
    gate.open()
    assert held.reply().status == 200
    assert len(waiting.reply().body) == rows * len(ROW)


SLOW_AT_FIRST = """
import select
from pathlib import Path
from penstock.worker import Tensor

SLOW = Path(__file__).with_name("slow")

class Model:
    inputs = {"x": Tensor("float32", (4,))}
    outputs = {"y": Tensor("float32", (4,))}

    def predict(self, batch):
        if SLOW.exists():
            select.select([], [], [], 3.0)
        return batch["x"]
"""


def test_what_a_stall_has_made_look_slow_is_tried_again(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Also where every client sets a limit, so that nobody is patient enough for what it seems to take."""
    (tmp_path / "model.py").write_text(SLOW_AT_FIRST)
    (tmp_path / "slow").touch()
    server = serve("--max-batch-size", "1", models={"m": tmp_path / "model.py"})
    (tmp_path / "slow").unlink()
    hurried = RAW | {"X-Request-Timeout-Ms": "1500"}

    def is_answered() -> bool:
        reply = server.request("POST", "/predict", ROW, hurried)
        assert reply.status == 200 or reply.json()["code"] in ("deadline_unreachable", "deadline_exceeded")
        return reply.status == 200

    # It is refused at first, and for ever if nothing is tried.
    until(is_answered, "one is let through")
