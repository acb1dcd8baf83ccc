"""The process around the data plane: what it tells, what it leaves behind, how it ends."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.integration.gate import Gate
from tests.integration.supervised import until
from tests.serving import Server

SECONDS = 300.0
SLOW_SOURCE = '''\
"""Loads when the test says so."""

from penstock.worker import Tensor


class Model:
    inputs = {"x": Tensor("float32", (1,))}
    outputs = {"y": Tensor("float32", (1,))}

    def load(self):
        with open(%r, "rb") as gate:
            gate.read(1)

    def predict(self, batch):
        return {"y": batch["x"]}
'''


@contextmanager
def starting(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start a server without waiting until it is ready; its standard error is a pipe. It is killed after SECONDS."""
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock", "serve", "--port", "0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    watchdog = threading.Timer(SECONDS, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to the line that has the text."""
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return line
    raise AssertionError(f"it ended without saying {text!r}")


def status_of(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def slow_model(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], int]]]:
    """A model that loads once the returned function is called."""
    pipe = tmp_path / "slow.gate"
    os.mkfifo(pipe)
    model = tmp_path / "slow.py"
    model.write_text(SLOW_SOURCE % str(pipe))
    gate = os.open(pipe, os.O_RDWR | os.O_CLOEXEC)
    yield model, lambda: os.write(gate, b".")
    os.close(gate)


@pytest.fixture
def runtime_folder() -> Iterator[Path]:
    """An empty folder for XDG_RUNTIME_DIR with a short name: the path of a socket has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="penstock-run-") as folder:
        yield Path(folder)


def test_memory_without_models(serve: Callable[..., Server]) -> None:
    server = serve()
    for path in ("/models", "/metrics", "/openapi.json", "/health/live"):
        assert server.request("GET", path).status == 200
    assert psutil.Process(server.process.pid).memory_info().rss < 120e6


def test_runtime_folder_is_private_and_does_not_stay(runtime_folder: Path, tmp_path: Path) -> None:
    server = Server.start([], tmp_path, {"XDG_RUNTIME_DIR": str(runtime_folder)})
    (folder,) = runtime_folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in folder.iterdir()) == ["control.sock", "predict.sock"]
    server.stop()
    assert list(runtime_folder.iterdir()) == []


def test_internal_header_of_a_client_counts_for_nothing(serve: Callable[..., Server]) -> None:
    server = serve()
    reply = server.request("GET", "/nothing", headers={"X-Penstock-Request-Id": "forged", "X-Request-Id": "mine-1"})
    assert reply.status == 404
    assert reply.headers["x-request-id"] == "mine-1"
    assert reply.json()["request_id"] == "mine-1"
    made = server.request("GET", "/models", headers={"X-Penstock-Request-Id": "forged"}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


def test_json_log_is_json_only(serve: Callable[..., Server]) -> None:
    server = serve("--log-format", "json", "--log-level", "debug")
    server.request("GET", "/models", headers={"X-Request-Id": "seen-in-the-log"})
    server.request("GET", "/models")
    until(lambda: '"ready"' in server.log.read_text(), "it is logged")
    records = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [record["message"] for record in records][:2] == ["loading", "ready"]
    assert records[1]["url"] == server.url


def test_example_of_the_banner_works(server: Server) -> None:
    assert shutil.which("curl"), "curl is not installed"
    (line,) = [line for line in server.log.read_text().splitlines() if line.strip().startswith("try")]
    command = line.strip().removeprefix("try").strip()
    result = subprocess.run(["sh", "-c", f"{command} -s"], capture_output=True, timeout=SECONDS, check=True)
    assert json.loads(result.stdout)["outputs"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "192.0.2.1"], "192.0.2.1 is not an address of this machine"),
        (["--host", "no such host"], "no such host is not an address of this machine"),
        (["--unix-socket", "/nonexistent/penstock.sock"], "cannot listen on /nonexistent/penstock.sock"),
    ],
)
def test_address_that_cannot_be_used(arguments: list[str], message: str, tmp_path: Path) -> None:
    with starting(*arguments, XDG_RUNTIME_DIR=str(tmp_path)) as process:
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert f"penstock: {message}" in said
    assert list(tmp_path.iterdir()) == []


def test_failed_start_leaves_nothing_behind(model_folder: Path, runtime_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('the weights are missing')\n")
    good = f"affine={model_folder}/affine.onnx"
    with starting(good, f"broken={broken}", XDG_RUNTIME_DIR=str(runtime_folder)) as process:
        line_with(process, "loading")
        children = psutil.Process(process.pid).children(recursive=True)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "broken" in said.splitlines()[-1]
    assert "the weights are missing" in said
    assert list(runtime_folder.iterdir()) == []
    _, alive = psutil.wait_procs(children, timeout=SECONDS)
    assert not alive


@pytest.mark.parametrize(("flag", "name"), [("--port", "port"), ("--grpc-port", "the port for gRPC")])
def test_a_port_in_use_is_told_with_who_may_have_it(flag: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with starting(flag, str(port)) as process:
            line = line_with(process, "is in use")
            assert process.wait(SECONDS) != 0
    assert f"penstock: {name} {port} of 127.0.0.1 is in use" in line
    assert "for gRPC (its --grpc-port)" in line
    assert f"choose another with {flag}" in line


def test_health_is_answered_while_models_load(slow_model: tuple[Path, Callable[[], int]]) -> None:
    model, load = slow_model
    with starting(str(model)) as process:
        port = int(line_with(process, "loading").split("url=http://127.0.0.1:")[1].split()[0])
        assert status_of(port, "/health/live")[0] == 200
        status, body = status_of(port, "/health/ready")
        assert (status, json.loads(body)["code"]) == (503, "model_unavailable")
        assert json.loads(status_of(port, "/models")[1])["models"][0]["state"] == "loading"
        load()
        line_with(process, "is ready on")
        assert status_of(port, "/health/ready")[0] == 200
        process.terminate()
        assert process.wait(SECONDS) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_models_load_ends_it(slow_model: tuple[Path, Callable[[], int]], number: int) -> None:
    model, _ = slow_model
    with starting(str(model)) as process:
        line_with(process, "loading")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
        _, alive = psutil.wait_procs(children, timeout=SECONDS)
        assert not alive


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_second_signal_ends_it_at_once(
    gate: Gate, runtime_folder: Path, tmp_path: Path, number: int, status: int
) -> None:
    environment = {"XDG_RUNTIME_DIR": str(runtime_folder), "PENSTOCK_DRAIN_TIMEOUT_S": "3600"}
    server = Server.start([f"gated={gate.path}"], tmp_path, environment)
    held = http.client.HTTPConnection(server.host, server.port, timeout=SECONDS)
    held.request("POST", "/predict", json.dumps({"inputs": [Gate.HOLD, 0, 0, 0]}))
    gate.wait_until_reached()
    (worker,) = psutil.Process(server.process.pid).children(recursive=True)
    server.process.send_signal(signal.SIGTERM)
    while "draining" not in server.log.read_text():
        assert server.process.poll() is None
    server.process.send_signal(number)
    assert server.process.wait(SECONDS) == status
    held.close()
    worker.wait(SECONDS)
    assert list(runtime_folder.iterdir()) == []


def test_workers_do_not_inherit_the_ready_descriptor(server: Server) -> None:
    for worker in psutil.Process(server.process.pid).children(recursive=True):
        assert "PENSTOCK_READY_FD" not in worker.environ()
        pipes = [link for link in Path(f"/proc/{worker.pid}/fd").iterdir() if os.readlink(link).startswith("pipe:")]
        assert pipes == []


def test_a_server_that_stops_waits_for_no_model_to_load(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    server = Server.start(["--development"], tmp_path)
    body = json.dumps({"name": "slow", "path": str(tmp_path / "slow.py")})
    assert server.request("POST", "/models", body, {"Content-Type": "application/json"}).status == 201
    with ThreadPoolExecutor(1) as client:
        loading = client.submit(server.request, "POST", "/models/slow/load", "{}", {"Content-Type": "application/json"})
        while "loading" not in server.request("GET", "/models/slow").body.decode():
            pass
        server.stop()
        refused = loading.result(SECONDS)
    assert (refused.status, refused.json()["code"]) == (503, "draining")
