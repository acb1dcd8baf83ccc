"""Start, death and end: a bad start says what to do, no death costs more than it must, SIGTERM drains."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from bench.wire import Reply, Wire, request_bytes
from tests.integration.gate import Gate
from tests.integration.workers import kill_worker, restarts
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
READY = request_bytes("GET", "/health/ready")


def predict_bytes(row: list[float], model: str = "gated") -> bytes:
    return request_bytes("POST", "/predict", json.dumps({"model": model, "inputs": row}).encode(), JSON)


# --- start ----------------------------------------------------------------------------------------------------------


def refused_start(*arguments: str, env: dict[str, str] | None = None) -> str:
    """Start a server that must not start; what it says."""
    command = [sys.executable, "-m", "penstock", "serve", *arguments]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})}, check=False
    )
    assert result.returncode not in (0, -signal.SIGKILL), result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout + result.stderr


def test_unknown_setting_is_named(tmp_path: Path) -> None:
    config = tmp_path / "penstock.toml"
    config.write_text("[server]\nmax_conections = 3\n")
    said = refused_start("--config", str(config), "--port", "0")
    assert "max_conections" in said and "max_connections" in said


def test_unreadable_model_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no model")
    assert str(broken) in refused_start(f"broken={broken}", "--port", "0")
    missing = tmp_path / "missing.onnx"
    assert str(missing) in refused_start(f"missing={missing}", "--port", "0")


def test_busy_port_is_named(model_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert str(port) in refused_start(f"affine={model_folder}/affine.onnx", "--port", str(port))


def test_server_without_models(serve: Callable[..., Server], connect: Callable[..., Wire]) -> None:
    server = serve()
    assert server.request("GET", "/health/ready").status == 200
    assert server.request("GET", "/models").json()["models"] == []
    wire = connect(server)
    head, _, body = predict_bytes([1], "any").partition(b"\r\n\r\n")
    for pieces in ([head + b"\r\n\r\n" + body], [head + b"\r\n\r\n", body]):
        for piece in pieces:
            wire.send(piece)
            assert server.request("GET", "/health/live").status == 200  # by now the server has read the piece
        refused = wire.reply()
        assert (refused.status, refused.json()["code"]) == (404, "model_not_found")


def test_banner_names_models_and_address(server: Server) -> None:
    banner = server.log.read_text()
    assert str(server.port) in banner
    for name in ("affine", "mlp", "pair", "echo"):
        assert name in banner


# --- death ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("io_threads", "instances"), [(1, 1), (2, 3)])
def test_killed_worker_costs_an_onnx_model_no_request(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path, io_threads: int, instances: int
) -> None:
    threads_and_instances = ["--io-threads", str(io_threads), "--instances", str(instances)]
    patient = {"PENSTOCK_REQUEST_TIMEOUT_MS": "300000"}
    server = serve(*threads_and_instances, models={"affine": model_folder / "affine.onnx"}, env=patient)
    stop = threading.Event()

    def load(number: int) -> int:
        wire = connect(server)
        turn = 0
        while not stop.is_set():
            turn += 1
            wire.send(predict_bytes([number, turn, 0, 0], "affine") * 8)
            for _ in range(8):
                reply = wire.reply()
                assert reply.status == 200, reply.body
                assert reply.json()["outputs"]["y"] == [2 * number + 1, 2 * turn + 1, 1, 1]
        return turn

    with ThreadPoolExecutor(8) as threads:
        loads = [threads.submit(load, number) for number in range(8)]
        try:
            for _ in range(5):
                kill_worker(server, "affine")
                assert not any(done.done() for done in loads), [done.exception() for done in loads if done.done()]
        finally:
            stop.set()
        assert all(done.result() > 0 for done in loads)


def test_rows_of_a_python_model_fail_with_its_worker(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate
) -> None:
    """They may have run: the client is told, and decides."""
    server = serve(models={"gated": gate.path})
    wire = connect(server)
    wire.send(predict_bytes([Gate.HOLD, 0, 0, 0]))
    gate.wait_until_reached()
    kill_worker(server, "gated")
    reply = wire.reply()
    assert (reply.status, reply.json()["code"]) == (503, "worker_died")
    assert until_served(wire, [1, 2, 3, 4]).json()["outputs"]["y"] == [2, 4, 6, 8]


def until_served(wire: Wire, row: list[float]) -> Reply:
    """Ask until a worker is back."""
    deadline = time.monotonic() + 300
    while True:
        wire.send(predict_bytes(row))
        reply = wire.reply()
        if reply.status == 200:
            return reply
        assert reply.json()["code"] == "model_unavailable", reply.body
        assert time.monotonic() < deadline, "no worker came back"


@pytest.mark.parametrize("bad", [Gate.RAISE, Gate.EXIT], ids=["exception", "SystemExit"])
@pytest.mark.parametrize("culprit", [0, 3, 7])
def test_exception_is_its_row_s_own(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate, culprit: int, bad: float
) -> None:
    replies = run_in_one_batch(serve(models={"gated": gate.path}), connect, gate, culprit, bad)
    assert [reply.status for reply in replies] == [500 if index == culprit else 200 for index in range(8)]
    assert replies[culprit].json()["code"] == "model_error"
    for index in set(range(8)) - {culprit}:
        assert replies[index].json()["outputs"]["y"] == [2 * index, 0, 0, 0]


def test_row_that_kills_every_worker_is_found(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate
) -> None:
    server = serve(
        models={"gated": gate.path}, env={"PENSTOCK_ON_WORKER_DEATH": "rerun", "PENSTOCK_REQUEST_TIMEOUT_MS": "300000"}
    )
    replies = run_in_one_batch(server, connect, gate, 5, Gate.POISON)
    assert [reply.status for reply in replies] == [500 if index == 5 else 200 for index in range(8)], replies
    assert replies[5].json()["code"] == "model_error"
    assert until_served(connect(server), [1, 2, 3, 4]).json()["outputs"]["y"] == [2, 4, 6, 8]


def run_in_one_batch(server: Server, connect: Callable[..., Wire], gate: Gate, culprit: int, bad: float) -> list[Reply]:
    """Let eight rows wait behind a held one, so that they become a batch; row `culprit` starts with `bad`."""
    held = connect(server)
    held.send(predict_bytes([Gate.HOLD, 0, 0, 0]))
    gate.wait_until_reached()
    wires = [connect(server) for _ in range(8)]
    for index, wire in enumerate(wires):
        wire.send(predict_bytes([bad if index == culprit else index, 0, 0, 0]))
    for _ in range(2):  # the loop has read the rows before it answers what came behind them
        assert server.request("GET", "/health/live").status == 200
    gate.open()
    assert held.reply().status == 200
    return [wire.reply() for wire in wires]


def test_death_is_seen_in_metrics_and_models(serve: Callable[..., Server], model_folder: Path) -> None:
    server = serve(models={"affine": model_folder / "affine.onnx"})
    kill_worker(server, "affine")
    assert server.predict(inputs=[1, 2, 3, 4]).status == 200
    assert restarts(server, "affine") == 1
    metrics = server.request("GET", "/metrics").body.decode()
    assert 'penstock_worker_restarts_total{model="affine",version="1"} 1.0' in metrics


# --- end ------------------------------------------------------------------------------------------------------------


def test_sigterm_drains(connect: Callable[..., Wire], gate: Gate, tmp_path: Path) -> None:
    """Readiness goes first, nothing new is accepted, what was accepted is answered, and the exit status is 0."""
    running = Server.start([f"gated={gate.path}"], tmp_path)
    wire = connect(running)
    wire.send(READY)
    assert wire.reply().status == 200
    wire.send(predict_bytes([Gate.HOLD, 0, 0, 0]))
    gate.wait_until_reached()
    with ThreadPoolExecutor(1) as thread:
        stopped = thread.submit(running.stop)  # checks the exit status as well
        wait_until_refusing(running)
        wire.send(READY + predict_bytes([1, 2, 3, 4]))
        gate.open()
        assert wire.reply().json()["outputs"]["y"] == [2 * Gate.HOLD, 0, 0, 0]
        ready = wire.reply()
        assert (ready.status, ready.json()["code"]) == (503, "draining")
        stopped.result()


def wait_until_refusing(server: Server) -> None:
    """Ask over new connections until they are refused or the answer is that the server drains."""
    while True:
        try:
            if server.request("GET", "/health/ready").status == 503:
                return
        except (OSError, http.client.HTTPException):
            return


def test_drain_is_bounded(connect: Callable[..., Wire], gate: Gate, tmp_path: Path) -> None:
    """A batch that never ends does not keep the server."""
    running = Server.start([f"gated={gate.path}"], tmp_path, {"PENSTOCK_DRAIN_TIMEOUT_S": "1"})
    wire = connect(running)
    wire.send(predict_bytes([Gate.HOLD, 0, 0, 0]))
    gate.wait_until_reached()
    running.stop()


def test_workers_end_with_a_server_that_is_killed(model_folder: Path, tmp_path: Path) -> None:
    running = Server.start([f"affine={model_folder}/affine.onnx"], tmp_path)
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert children
    running.process.kill()
    running.process.wait()
    _, alive = psutil.wait_procs(children, timeout=300)
    assert not alive
