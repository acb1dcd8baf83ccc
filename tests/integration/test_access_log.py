"""The access log: whole lines, a share of them, failures beside it, rotation, and a disk that is full."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.supervised import until
from tests.models import affine
from tests.serving import Server

SECONDS = 300.0
BODY = json.dumps({"model": "affine", "inputs": [1, 2, 3, 4]})
JSON = {"Content-Type": "application/json"}


@contextmanager
def logging_server(folder: Path, *arguments: str) -> Iterator[Server]:
    server = Server.start([f"affine={affine(folder)}", *arguments], folder)
    try:
        yield server
        server.stop()
    finally:
        server.process.kill()
        server.process.wait()


def lines_of(path: Path, at_least: int) -> list[dict[str, Any]]:
    """Wait until so many lines are there."""
    deadline = time.monotonic() + SECONDS
    while True:
        text = path.read_text() if path.exists() else ""
        if text.count("\n") >= at_least:
            return [json.loads(line) for line in text.splitlines()]
        assert time.monotonic() < deadline, text


def ask(server: Server, request_id: str, body: str = BODY) -> int:
    return server.request("POST", "/predict", body, {**JSON, "X-Request-Id": request_id}).status


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", server.request("GET", "/metrics").body.decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def test_a_line_says_what_was_asked_and_how_long_it_took(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with logging_server(tmp_path, "--access-log", str(log)) as server:
        before = time.time()
        assert ask(server, "one") == 200
        assert ask(server, "two", '{"model":"none","inputs":[1]}') == 404
        assert server.request("GET", "/models", headers={"X-Request-Id": "three"}).status == 200
        one, two, three = lines_of(log, 3)
        assert server.request("GET", "/nothing/%22%7B?secret=1", headers={"X-Request-Id": "four"}).status == 404
        assert lines_of(log, 4)[3]["path"] == "/nothing/%22%7B"
    assert one["request_id"] == "one" and one["status"] == 200
    assert (one["method"], one["path"], one["client"]) == ("POST", "/predict", "127.0.0.1")
    assert (one["model"], one["version"], one["rows"], one["batch_rows"]) == ("affine", "1", 1, 1)
    assert one["bytes_in"] == len(BODY) and one["bytes_out"] > 50
    assert 0 <= one["run_us"] <= one["batch_us"] <= one["total_us"] and one["queue_us"] <= one["total_us"]
    written = time.strptime(one["time"][:19], "%Y-%m-%dT%H:%M:%S")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", one["time"])
    assert abs(time.mktime(written) - time.timezone - before) < SECONDS
    assert two["status"] == 404 and two["code"] == "model_not_found" and "model" not in two
    assert three["path"] == "/models" and three["status"] == 200 and "queue_us" not in three
    assert oct(log.stat().st_mode & 0o777) in ("0o640", "0o600")


def test_a_share_is_written_and_every_failure(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    settings = tmp_path / "penstock.toml"
    settings.write_text(f'[server]\naccess_log = "{log}"\naccess_log_sample = 0\n')
    with logging_server(tmp_path, "--config", str(settings)) as server:
        assert ask(server, "fine") == 200
        assert ask(server, "bad", '{"model":"affine","inputs":[1]}') == 422
    (line,) = lines_of(log, 1)  # the server has ended: there will be no more
    assert line["request_id"] == "bad" and line["code"] == "invalid_input"


@pytest.mark.parametrize("tells", [True, False], ids=["sighup", "inode"])
def test_a_file_that_was_renamed_is_made_anew(tells: bool, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with logging_server(tmp_path, "--access-log", str(log)) as server:
        assert ask(server, "before") == 200
        assert lines_of(log, 1)[0]["request_id"] == "before"
        log.rename(tmp_path / "access.log.1")
        if tells:
            server.process.send_signal(signal.SIGHUP)
        assert ask(server, "after") == 200
        assert [line["request_id"] for line in lines_of(log, 1)] == ["after"]
        assert [line["request_id"] for line in lines_of(tmp_path / "access.log.1", 1)] == ["before"]


def test_a_full_disk_loses_lines_and_no_requests(tmp_path: Path) -> None:
    with logging_server(tmp_path, "--access-log", "/dev/full") as server:
        for number in range(10):
            assert ask(server, f"r{number}") == 200
        deadline = time.monotonic() + SECONDS
        while metric(server, "penstock_access_log_dropped_total") < 10:
            assert time.monotonic() < deadline
        assert metric(server, "penstock_access_log_lines_total") == 0
        said = "the access log cannot be written"
        until(lambda: said in server.log.read_text(), "it is said")
        assert server.log.read_text().count(said) == 1


def test_standard_output_gets_lines_alone(tmp_path: Path) -> None:
    ready, announce = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "penstock",
            "serve",
            f"affine={affine(tmp_path)}",
            "--port",
            "0",
            "--access-log",
            "-",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[announce],
        env={**os.environ, "PENSTOCK_DATA_DIR": str(tmp_path / "data"), "PENSTOCK_READY_FD": str(announce)},
    )
    os.close(announce)
    try:
        with os.fdopen(ready) as told:
            event = json.loads(told.readline())
        server = Server("127.0.0.1", event["port"], process, tmp_path / "none.log")
        for number in range(50):
            assert ask(server, f"r{number}") == 200
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
        process.wait()
    assert [json.loads(line)["request_id"] for line in output.splitlines()] == [f"r{number}" for number in range(50)]


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"access_log: cannot write .*its folder must exist"):
        Server.start([f"affine={affine(tmp_path)}", "--access-log", str(tmp_path / "none/a.log")], tmp_path)
