"""At its bounds the server says so at once, and can still be looked after."""

import json
import os
import resource
import select
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from bench.wire import ClosedError, Reply, Wire, request_bytes
from tests.integration.gate import Gate
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
BODY = b'{"model":"affine","inputs":[1,2,3,4]}'
LIVE = request_bytes("GET", "/health/live")

# Takes the interpreter's lock, from the first byte that comes through one pipe until one comes through the other.
HOG = """\
import os, select, sys, threading

def hog():
    start = os.open(os.environ["HOG_START"], os.O_RDWR)
    stop = os.open(os.environ["HOG_STOP"], os.O_RDWR)
    begun = os.open(os.environ["HOG_BEGUN"], os.O_RDWR)
    os.read(start, 1)
    os.write(begun, b".")
    while not select.select([stop], [], [], 0)[0]:
        sum(range(1_000_000))

if "penstock" in sys.orig_argv:
    threading.Thread(target=hog, daemon=True).start()
"""


def gated_row(first: float, width: int) -> bytes:
    row = json.dumps({"model": "gated", "inputs": [first] + [0] * (width - 1)}).encode()
    return request_bytes("POST", "/predict", row, JSON)


def wait_readable(wires: Iterable[Wire]) -> list[Wire]:
    """Wait until at least one connection has something to read."""
    by_socket = {wire.socket: wire for wire in wires}
    readable, _, _ = select.select(list(by_socket), [], [], 30)
    assert readable, "no connection was answered"
    return [by_socket[ready] for ready in readable]


def collect(wires: list[Wire]) -> list[Reply]:
    return [wire.reply() for wire in wires]


def test_full_queue_refuses_at_once(
    serve: Callable[..., Server], connect: Callable[..., Wire], tmp_path: Path, model_folder: Path
) -> None:
    gate = Gate.make(tmp_path, width=256)
    server = serve(
        *("--queue-bytes", "16384", "--max-batch-size", "4"),
        models={"gated": gate.path, "affine": model_folder / "affine.onnx"},
    )
    try:
        held = connect(server)
        held.send(gated_row(Gate.HOLD, 256))
        gate.wait_until_reached()
        others = [connect(server) for _ in range(64)]  # 16 KiB hold fewer rows of 1 KiB than these
        for wire in others:
            wire.send(gated_row(1, 256))
        refused = wait_readable(others)
        for wire in refused:
            reply = wire.reply()
            assert (reply.status, reply.json()["code"]) == (503, "queue_full")
            assert int(reply.headers["retry-after"]) >= 1
        other_model = connect(server).ask("POST", "/predict", BODY, JSON)
        assert other_model.status == 200  # a queue is its model's own
        for path in ("/health/live", "/health/ready", "/models", "/metrics"):
            assert connect(server).ask("GET", path).status == 200, path
    finally:
        gate.open(100)
    replies = [held.reply(), *collect([wire for wire in others if wire not in refused])]
    assert {reply.status for reply in replies} <= {200, 503}
    assert sum(reply.status == 200 for reply in replies) >= 4
    assert held.ask("POST", "/predict", BODY, JSON).status == 200
    gate.close()


def test_expired_rows_make_room_for_nobody_else_s_answer(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate
) -> None:
    """Rows whose clients have given up are dropped when they come back, not handed to whoever asks next."""
    server = serve("--max-batch-size", "1", models={"gated": gate.path})
    held = connect(server)
    held.send(gated_row(Gate.HOLD, 4))
    gate.wait_until_reached()
    waiting = [connect(server) for _ in range(8)]
    late = json.dumps({"inputs": [5, 5, 5, 5]}).encode()
    for wire in waiting:
        wire.send(request_bytes("POST", "/predict", late, JSON | {"X-Request-Timeout-Ms": "100"}))
    assert {reply.json()["code"] for reply in collect(waiting)} == {"deadline_exceeded"}
    for wire in waiting:
        wire.send(gated_row(1, 4))
    gate.open()
    assert [reply.json()["outputs"]["y"][0] for reply in collect([held, *waiting])] == [2 * Gate.HOLD] + [2] * 8


def test_gone_clients_hold_nothing(serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate) -> None:
    server = serve(*("--queue-bytes", "4096", "--max-batch-size", "1"), models={"gated": gate.path})
    held = connect(server)
    held.send(gated_row(Gate.HOLD, 4))
    gate.wait_until_reached()
    for _ in range(50):
        wire = connect(server)
        wire.send(gated_row(7, 4))
        wire.abort()
    gate.open()
    assert held.reply().status == 200
    for _ in range(20):
        assert held.ask("POST", "/predict", b'{"inputs":[1,2,3,4]}', JSON).json()["outputs"]["y"] == [2, 4, 6, 8]


def test_connections_over_the_limit(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path
) -> None:
    """The last places are kept for administration; beyond them a 503 says so."""
    limits = {"PENSTOCK_MAX_CONNECTIONS": "12", "PENSTOCK_RESERVED_CONNECTIONS": "4"}
    server = serve(models={"affine": model_folder / "affine.onnx"}, env=limits)
    wires = []
    while len(wires) < 50:
        wires.append(connect(server))
        try:
            reply = wires[-1].ask("GET", "/health/live")
        except (ClosedError, ConnectionError):
            break
        if reply.status == 503:
            assert reply.json()["code"] == "connections_exhausted" and "retry-after" in reply.headers
            break
    *open_wires, over = wires
    assert over.is_closed_by_server()
    assert 12 <= len(open_wires) <= 16
    replies = [wire.ask("POST", "/predict", BODY, JSON) for wire in open_wires]
    statuses = [reply.status for reply in replies]
    assert statuses == [200] * (len(statuses) - 4) + [503] * 4
    assert {reply.json()["code"] for reply in replies[-4:]} == {"connections_exhausted"}
    for wire in open_wires:
        wire.close()
    assert wait_for_room(server, connect).status == 200


def wait_for_room(server: Server, connect: Callable[..., Wire]) -> Reply:
    """Predict over new connections until the server has noticed that the old ones are gone."""
    for _ in range(1000):
        try:
            reply = connect(server).ask("POST", "/predict", BODY, JSON | {"Connection": "close"})
        except (ClosedError, ConnectionError):
            continue
        if reply.status == 200:
            return reply
    raise AssertionError("no room came back")


def test_refused_connection_is_told_why(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path
) -> None:
    limits = {"PENSTOCK_MAX_CONNECTIONS": "2", "PENSTOCK_RESERVED_CONNECTIONS": "1"}
    server = serve(models={"affine": model_folder / "affine.onnx"}, env=limits)
    kept = [connect(server) for _ in range(3)]
    for wire in kept[:2]:
        assert wire.ask("GET", "/health/live").status == 200
    over = connect(server)  # says nothing, so that nothing of it is lost when the server closes
    reply = over.reply()
    assert (reply.status, reply.json()["code"]) == (503, "connections_exhausted")
    assert int(reply.headers["retry-after"]) >= 1


def test_descriptors_run_out_and_come_back(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path
) -> None:
    server = serve(models={"affine": model_folder / "affine.onnx"})
    kept = connect(server)
    assert kept.ask("POST", "/predict", BODY, JSON).status == 200
    used = len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 8, hard))
    crowd = [connect(server) for _ in range(64)]
    for wire in crowd:
        wire.socket.setblocking(False)
    assert kept.ask("POST", "/predict", BODY, JSON).status == 200
    assert kept.ask("GET", "/health/ready").status == 200
    for wire in crowd:
        wire.close()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert wait_for_room(server, connect).status == 200
    assert kept.ask("GET", "/models").status == 200


def test_descriptor_limit_is_raised(server: Server) -> None:
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard


def test_data_plane_needs_no_python(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path, tmp_path: Path
) -> None:
    """A thread that hogs the interpreter delays neither predictions nor health; administration is slow and works."""
    pipes = {name: tmp_path / name for name in ("HOG_START", "HOG_STOP", "HOG_BEGUN")}
    for pipe in pipes.values():
        os.mkfifo(pipe)
    (tmp_path / "sitecustomize.py").write_text(HOG)
    start, stop, begun = (os.open(pipe, os.O_RDWR) for pipe in pipes.values())
    environment = {"PYTHONPATH": str(tmp_path), **{name: str(pipe) for name, pipe in pipes.items()}}
    server = serve(models={"affine": model_folder / "affine.onnx"}, env=environment)
    try:
        os.write(start, b".")
        assert select.select([begun], [], [], 30)[0], "the hog did not start"
        wire = connect(server)
        for _ in range(2000):
            wire.send(request_bytes("POST", "/predict", BODY, JSON) + LIVE)
            assert [wire.reply().status, wire.reply().status] == [200, 200]
        assert connect(server).ask("GET", "/health/ready").status == 200
        for path in ("/models", "/metrics"):
            assert connect(server).ask("GET", path).status == 200, path
    finally:
        os.write(stop, b".")
        for descriptor in (start, stop, begun):
            os.close(descriptor)


@pytest.mark.parametrize("reads_later", [True, False])
def test_client_that_does_not_read(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path, reads_later: bool
) -> None:
    """It is read from no further, disturbs nobody, and gets all it is owed if it reads again."""
    patient = {"PENSTOCK_WRITE_TIMEOUT_MS": "300000"}
    server = serve(models={"affine": model_folder / "affine.onnx"}, env=patient)
    other = connect(server)
    wire = connect(server, receive_buffer=4096)
    request_ = request_bytes("POST", "/predict", BODY, JSON)
    sent = send_until_stuck(wire, request_, other)
    if not reads_later:
        wire.abort()
    else:
        whole, part = divmod(sent, len(request_))
        wire.socket.settimeout(300)
        for _ in range(whole):
            assert wire.reply().status == 200
        wire.send(request_[part:])
        assert wire.reply().status == 200
    assert other.ask("GET", "/health/live").status == 200


def send_until_stuck(wire: Wire, request_: bytes, other: Wire) -> int:
    """Send requests without reading until the server takes no more; how many bytes it took."""
    wire.socket.setblocking(False)
    sent = 0
    while sent < 256 << 20:
        try:
            sent += wire.socket.send(request_[sent % len(request_) :])
        except BlockingIOError:
            # It is stuck if it stays so while the server does many other things.
            for _ in range(300):
                assert other.ask("POST", "/predict", BODY, JSON).status == 200
            if not select.select([], [wire.socket], [], 0)[1]:
                return sent
    raise AssertionError("the server has no bound on what it reads from a client that does not read")
