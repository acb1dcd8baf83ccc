"""Large rows and large answers beside small ones, in bounded memory."""

import json
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bench.models import write_extremes
from bench.wire import ClosedError, Reply, Wire, request_bytes
from tests.integration.workers import kill_worker
from tests.serving import Server

RAW = {"Content-Type": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
SMALL, MEDIUM, LARGE = 32, 150_000, 2_500_000  # 128 B, 600 KB, 10 MB of float32
WIDE = 300_000

FILL = f'''\
"""Answers {WIDE} times the number it got: a small row, a large reply."""

import numpy as np

from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32", (1,))}}
    outputs = {{"y": Tensor("float32", ({WIDE},))}}

    def predict(self, batch):
        return {{"y": np.broadcast_to(batch["x"], (len(batch["x"]), {WIDE}))}}
'''


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sizes")
    (folder / "fill.py").write_text(FILL)
    widths = {"small": SMALL, "medium": MEDIUM, "large": LARGE}
    return {name: write_extremes(folder / f"{name}.onnx", width) for name, width in widths.items()} | {
        "fill": folder / "fill.py"
    }


def row(width: int, seed: int) -> np.ndarray:
    """Numbers with few digits, the extremes at known places."""
    values = (np.arange(width, dtype=np.float32) % 97).astype(np.float32)
    values[seed % width] = -1.0 - seed
    values[(seed + width // 2) % width] = 1000.0 + seed
    return values


def post(wire: Wire, model: str, values: np.ndarray, *, as_json: bool) -> Reply:
    if as_json:
        numbers = np.char.mod("%d", values.astype(np.int64)).tolist()
        body = f'{{"model":"{model}","inputs":[{",".join(numbers)}]}}'.encode()
        return wire.ask("POST", "/predict", body, JSON)
    return wire.ask("POST", f"/predict?model={model}", values.tobytes(), RAW)


@pytest.mark.parametrize("as_json", [False, True], ids=["raw", "json"])
def test_rows_of_every_size_beside_each_other(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path], as_json: bool
) -> None:
    server = serve(models=models)
    shares = [("large", LARGE, 3), ("medium", MEDIUM, 20), ("medium", MEDIUM, 20), *[("small", SMALL, 300)] * 4]

    def ask_share(numbered: tuple[int, tuple[str, int, int]]) -> None:
        number, (model, width, count) = numbered
        wire = connect(server)
        for turn in range(count):
            seed = number * 1000 + turn
            reply = post(wire, model, row(width, seed), as_json=as_json)
            assert reply.status == 200, reply.body
            assert reply.json()["outputs"]["y"] == [-1 - seed, 1000 + seed]

    with ThreadPoolExecutor(len(shares)) as threads:
        list(threads.map(ask_share, enumerate(shares)))


def test_large_bodies_share_a_bounded_pool(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    """More large bodies at once than the pool holds: some wait, none is lost, and small ones go on."""
    server = serve(
        models={name: models[name] for name in ("small", "large")},
        env={"PENSTOCK_BODY_POOL_BYTES": "24MiB", "PENSTOCK_BODY_TIMEOUT_MS": "300000"},
    )
    started = [connect(server) for _ in range(6)]
    body = row(LARGE, 5).tobytes()
    request_ = request_bytes("POST", "/predict?model=large", body, RAW)
    for wire in started:  # each has begun, none can end
        wire.send(request_[:4096])
    assert post(connect(server), "small", row(SMALL, 1), as_json=False).status == 200
    with ThreadPoolExecutor(len(started)) as threads:
        list(threads.map(lambda wire: wire.send(request_[4096:]), started))
    for wire in started:
        reply = wire.reply()
        assert reply.status == 200, reply.body
        assert reply.json()["outputs"]["y"] == [-6, 1005]
    assert metrics_of(server)["penstock_body_pool_used_bytes"] == 0


def test_body_that_the_pool_can_never_hold(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    wire = connect(serve(models={"large": models["large"]}, env={"PENSTOCK_BODY_POOL_BYTES": "1MiB"}))
    wire.send(request_bytes("POST", "/predict", None, RAW | {"Content-Length": str(4 * LARGE)}))
    assert wire.reply().status == 413


def test_limit_on_bodies_follows_from_the_schema(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    server = serve(models={name: models[name] for name in ("small", "large")})
    for model, status in (("small", 413), ("large", 100)):
        wire = connect(server)
        fields = RAW | {"Content-Length": str(4 * LARGE), "Expect": "100-continue"}
        wire.send(request_bytes("POST", f"/predict?model={model}", None, fields))
        assert wire.next_reply().status == status, model


def test_slow_readers_of_large_answers_hold_up_nobody(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    server = serve(models=models, env={"PENSTOCK_WRITE_TIMEOUT_MS": "300000"})
    body = request_bytes("POST", "/predict?model=fill", struct.pack("<f", 7), RAW)
    slow = [connect(server, receive_buffer=4096) for _ in range(8)]
    for wire in slow:
        wire.send(body * 4)
    quick = connect(server)
    for turn in range(200):
        assert post(quick, "small", row(SMALL, turn), as_json=False).status == 200
    # The same model, too: an answer that nobody reads holds no buffer of the ring.
    for _ in range(3):
        reply = quick.ask(
            "POST", "/predict?model=fill", struct.pack("<f", 9), RAW | {"Accept": "application/octet-stream"}
        )
        assert reply.status == 200, reply.body
        assert (np.frombuffer(reply.body, np.float32) == 9).all() and len(reply.body) == 4 * WIDE
    for wire in slow[4:]:
        wire.abort()
    for wire in slow[:4]:
        for _ in range(4):
            reply = wire.reply()
            assert reply.status in (200, 503), reply.body[:300]
            if reply.status == 200:
                assert json.loads(reply.body)["outputs"]["y"] == [7] * WIDE


def test_client_that_leaves_in_the_middle_of_a_large_body(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    server = serve(
        models={name: models[name] for name in ("small", "large")}, env={"PENSTOCK_BODY_POOL_BYTES": "24MiB"}
    )
    request_ = request_bytes("POST", "/predict?model=large", row(LARGE, 5).tobytes(), RAW)
    for turn in range(12):
        wire = connect(server)
        wire.send(request_[: 1_000_000 * (turn + 1) % len(request_)])
        wire.abort() if turn % 2 else wire.close()
    # What they held is free again: two bodies of 10 MB fill the pool.
    for _ in range(2):
        assert post(connect(server), "large", row(LARGE, 3), as_json=False).json()["outputs"]["y"] == [-4, 1003]


def test_client_that_never_reads_is_cut_off(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    """Its answer holds memory of the pool no longer than the time to write allows."""
    server = serve(models={"fill": models["fill"]}, env={"PENSTOCK_WRITE_TIMEOUT_MS": "200"})
    deaf = connect(server, receive_buffer=4096)
    deaf.send(request_bytes("POST", "/predict", struct.pack("<f", 7), RAW) * 4)
    while (seen := metrics_of(server))["penstock_connections_timed_out_total"] == 0:
        assert seen["penstock_ready"] == 1  # each look is a request that has to be answered
    assert metrics_of(server)["penstock_body_pool_used_bytes"] == 0
    with pytest.raises((ClosedError, ConnectionError)):
        list(map(Wire.reply, [deaf] * 4))


def metrics_of(server: Server) -> dict[str, float]:
    """The metrics without labels."""
    lines = server.request("GET", "/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines if line[0] != "#")}


def test_killed_worker_runs_large_rows_again(
    serve: Callable[..., Server], connect: Callable[..., Wire], models: dict[str, Path]
) -> None:
    """Rows outside their buffer outlive the worker as well."""
    server = serve(models={"medium": models["medium"]}, env={"PENSTOCK_REQUEST_TIMEOUT_MS": "300000"})
    stop = threading.Event()

    def load(number: int) -> int:
        wire = connect(server)
        turn = 0
        while not stop.is_set():
            turn += 1
            reply = post(wire, "medium", row(MEDIUM, 1000 * number + turn), as_json=False)
            assert reply.status == 200, reply.body
            assert reply.json()["outputs"]["y"] == [-1 - 1000 * number - turn, 1000 + 1000 * number + turn]
        return turn

    with ThreadPoolExecutor(6) as threads:
        loads = [threads.submit(load, number) for number in range(6)]
        try:
            for _ in range(3):
                kill_worker(server, "medium")
        finally:
            stop.set()
        assert all(done.result() > 0 for done in loads)
