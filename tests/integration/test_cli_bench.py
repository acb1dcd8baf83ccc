"""`penstock bench` against a real server: what it prints, and what it says about a wrong wish."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from penstock.load.generator import Address
from penstock.load.scrape import fetch_metrics
from tests.serving import Server

SEVERAL = """
from penstock.worker import Tensor

class Model:
    inputs = {"x": Tensor("float32", (4,)), "n": Tensor("int64", (2, 2)), "flag": Tensor("bool")}
    outputs = {"y": Tensor("float32", (4,)), "m": Tensor("int64", (2, 2))}

    def predict(self, batch):
        return {"y": batch["x"] * 2, "m": batch["n"] + 1}
"""

ONE = """
from penstock.worker import Tensor

class Model:
    inputs = {"x": Tensor("float16", (4,))}
    outputs = {"y": Tensor("float16", (4,))}

    def predict(self, batch):
        return {"y": batch["x"] * 2}
"""

PEOPLE = """
from penstock.worker import Tensor

class Model:
    inputs = {"slots": Tensor("float64", (4,)), "note": Tensor("str"), "point": Tensor("float32", (2,))}
    outputs = {"age": Tensor("float64")}

    def predict(self, batch):
        assert set(batch["slots"][:, 1]) <= {0, 1} and all(batch["note"])
        return {"age": batch["slots"][:, 0]}
"""
PERSON = {
    "type": "object",
    "properties": {
        "age": {"type": ["integer", "null"], "minimum": 18},
        "sex": {"enum": ["female", "male"]},
        "address": {"type": "object", "properties": {"city": {"enum": ["Ulm", "Bonn"]}}, "required": ["city"]},
        "born": {"type": "string", "format": "date"},
        "note": {"type": "string", "minLength": 1},
        "point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    },
    "required": ["age", "sex", "note", "point"],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bench")
    (folder / "several.py").write_text(SEVERAL)
    (folder / "one.py").write_text(ONE)
    (folder / "people.py").write_text(PEOPLE)
    (folder / "people.processing.json").write_text(json.dumps({"format": 1, "record": PERSON}))
    models = [f"{name}={folder / name}.py" for name in ("several", "one", "people")]
    running = Server.start([*models, "--unix-socket", str(folder / "s")], folder)
    yield running
    running.stop()


def bench(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", "bench", url, "--duration", "0.5", "--warm-up", "0.1"]
    command += ["--timeout", "300", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("model", "encoding", "arrivals"),
    [
        ("several", "json", "poisson"),
        ("several", "msgpack", "constant"),
        ("one", "raw", "bursty"),
        ("people", "json", "constant"),
        ("people", "msgpack", "constant"),
    ],
)
def test_open_loop(server: Server, model: str, encoding: str, arrivals: str) -> None:
    chosen = ["--rate", "200", "--encoding", encoding, "--arrivals", arrivals]
    done = bench(server.url, "--model", model, "--json", "--pid", str(server.process.pid), *chosen)
    assert done.returncode in (0, 3), done.stderr  # 3: the generator fell behind, as it may on a busy machine
    figures = json.loads(done.stdout)
    assert figures["model"] == model and figures["version"] == "1"
    assert figures["errors"] == {} and figures["open_loop"] is True and figures["slo_kept"] is None
    assert 50 < figures["offered_rate"] < 400
    assert figures["latency"]["p50"] > 0 and figures["mean_batch"] >= 1
    assert figures["cost"]["cpu_us"] > 0 and figures["cost"]["processes"] == 4
    assert figures["kinds"][0]["dialect"] == encoding
    assert datetime.fromisoformat(figures["date"]).tzinfo is not None
    assert figures["machine"]["cores"] > 0 and figures["units"]["latency"] == "us"


def test_closed_loop_over_a_unix_socket_for_people(server: Server) -> None:
    url = f"unix:{server.log.parent / 's'}"
    done = bench(url, "--model", "several", "--depth", "4", "--connections", "3", "--threads", "2")
    assert done.returncode in (0, 3), done.stderr
    for text in ("several, version 1, json", "closed loop, 3 connections, 4 in flight on each", "p99.9", "mean batch"):
        assert text in done.stdout
    assert done.returncode == 3 or done.stderr == ""


def test_a_server_that_wants_a_key_is_shown_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_DATA_DIR", str(tmp_path / "data"))
    command = [sys.executable, "-m", "penstock", "keys", "create", "load", "--role", "predict", "--json"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    (tmp_path / "key").write_text(json.loads(made.stdout)["key"])
    (tmp_path / "one.py").write_text(ONE)
    server = Server.start([str(tmp_path / "one.py"), "--require-key"], tmp_path)
    try:
        refused = bench(server.url, "--model", "one")
        assert refused.returncode == 1 and "key" in refused.stderr
        done = bench(server.url, "--model", "one", "--connections", "2", "--json", "--key-file", str(tmp_path / "key"))
        assert done.returncode in (0, 3), done.stderr
        assert json.loads(done.stdout)["errors"] == {}
    finally:
        server.stop()


def test_the_version_that_is_asked_for_is_measured(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(ONE)
    config = tmp_path / "penstock.toml"
    tables = [f'[[models]]\nname = "m"\nversion = "{version}"\npath = "{tmp_path}/one.py"\n' for version in (1, 2)]
    config.write_text("\n".join(tables))
    server = Server.start(["--config", str(config)], tmp_path)
    try:
        before = {version: answered(server, version) for version in ("1", "2")}
        chosen = ["--rate", "100", "--version", "1", "--warm-up", "0", "--arrivals", "constant", "--json"]
        done = bench(server.url, "--model", "m", *chosen)
        assert json.loads(done.stdout)["version"] == "1"
        assert answered(server, "1") - before["1"] == 50 and answered(server, "2") == before["2"]
    finally:
        server.stop()


def answered(server: Server, version: str) -> float:
    address = Address(server.host, server.port)
    return fetch_metrics(address).total("penstock_batch_size_sum", model="m", version=version)


def test_a_trace_is_replayed(server: Server, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("\n".join(str(number / 50) for number in range(31)))
    done = bench(server.url, "--model", "several", "--trace", str(trace), "--json")
    assert json.loads(done.stdout)["requests"] == 25  # those of the last half second


@pytest.mark.parametrize(("slo", "status", "kept"), [("300000", 0, True), ("0.001", 1, False)])
def test_a_limit_is_judged(server: Server, slo: str, status: int, kept: bool) -> None:
    done = bench(server.url, "--model", "several", "--rate", "1500", "--slo-p99-ms", slo, "--json")
    assert json.loads(done.stdout)["slo_kept"] is kept
    assert done.returncode in (status, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--model", "missing"], 1, "no model 'missing' is served; GET /models lists them"),
        (["--model", "several", "--version", "9"], 1, "has no version '9' at http://"),
        (["--model", "several", "--encoding", "xml"], 2, "'xml' is not one of json, msgpack, raw"),
        (["--model", "people", "--encoding", "raw"], 2, "people takes records: take --encoding json or msgpack"),
        (["--model", "several", "--encoding", "raw"], 2, "several has 3 inputs and 2 outputs: take --encoding msgpack"),
        (["--model", "several", "--rate", "10", "--arrivals", "never"], 2, "not 'never'"),
        (["--model", "several", "--slo-p99-ms", "5"], 2, "a closed loop proves no latency: give --rate or --trace"),
        (["--model", "several", "--pid", "999999999"], 2, "there is no process 999999999"),
        (["--model", "several", "--duration", "inf"], 2, "--duration"),
        (["--model", "several", "--seed", "-1"], 2, "--seed"),
        (["--model", "several", "--depth", "100000000"], 2, "--depth"),
        (["--model", "several", "--rate", "1e9"], 2, ": take less time"),
        (["--model", "several", "--trace", "/nonexistent"], 2, "cannot read the trace /nonexistent"),
        (["--model", "several", "--connections", "2", "--threads", "3"], 2, "each thread needs a connection"),
        ([], 2, "--model"),
    ],
)
def test_a_wrong_wish_is_refused_in_a_sentence(server: Server, arguments: list[str], status: int, says: str) -> None:
    done = bench(server.url, *arguments)
    assert done.returncode == status
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "unix:/nonexistent/socket"])
def test_nobody_there(url: str) -> None:
    done = bench(url, "--model", "several")
    assert done.returncode == 3
    assert "is `penstock serve` running there?" in done.stderr


@pytest.mark.parametrize("body", ["hello", "{}", "[]", '{"versions": [{"version": 1}]}'])
def test_another_server_than_penstock(body: str) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        done = bench(f"http://127.0.0.1:{other.server_port}", "--model", "m")
        other.shutdown()
        thread.join()
    assert done.returncode == 1
    assert "answers, but not as Penstock does" in done.stderr


def test_no_address() -> None:
    done = bench("nowhere", "--model", "several")
    assert done.returncode == 2 and "'nowhere' is no address" in done.stderr


def test_the_server_may_be_named_as_for_other_commands() -> None:
    command = [sys.executable, "-m", "penstock", "bench", "--model", "several"]
    places = {
        "http://127.0.0.1:1": ([], {"PENSTOCK_URL": "http://127.0.0.1:1"}),
        "http://127.0.0.1:2": (["--url", "http://127.0.0.1:2"], {"PENSTOCK_URL": "http://127.0.0.1:1"}),
    }
    for place, (more, environment) in places.items():
        done = subprocess.run(
            [*command, *more], capture_output=True, text=True, check=False, env={**os.environ, **environment}
        )
        assert done.returncode == 3
        assert f"nothing answers at {place}" in done.stderr
