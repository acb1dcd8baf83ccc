"""The result cache, on a real server with a Python model that notes each row that it runs."""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from bench.wire import Wire
from tests.integration.gate import Gate
from tests.integration.noting import RECEIPT, Noting, answer, ask, cache_of
from tests.integration.registered import Node
from tests.integration.supervised import DEADLINE_SECONDS, until
from tests.serving import Server


@pytest.fixture
def noting(tmp_path: Path) -> Noting:
    return Noting(tmp_path)


@pytest.fixture
def cached(serve: Callable[..., Server], noting: Noting) -> Server:
    server = serve(models={"m": noting.path}, env={"PENSTOCK_CACHE_TTL_S": "3600"})
    noting.forget()
    return server


def test_equal_requests_run_once(cached: Server, noting: Noting, connect: Callable[..., Wire]) -> None:
    wire = connect(cached)
    assert [answer(ask(wire, 2)) for _ in range(5)] == [6] * 5
    again = ask(wire, 2, **RECEIPT)
    assert (again.headers["x-penstock-cache"], again.headers["x-penstock-model-version"]) == ("hit", "1")
    assert int(again.headers["age"]) >= 0
    assert answer(ask(wire, 4)) == 12
    assert noting.runs() == ["2", "4"]
    counts = cache_of(cached)
    assert counts.pop("bytes") > 0
    assert counts == {"ttl_s": 3600, "hits": 5, "misses": 2, "coalesced": 0, "evictions": 0, "rows": 2}
    metrics = cached.request("GET", "/metrics").body.decode()
    assert 'penstock_cache_hits_total{model="m",version="1"} 5.0' in metrics
    assert 'penstock_cache_rows{model="m",version="1"} 2.0' in metrics


def test_off_unless_asked_for(serve: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]) -> None:
    server = serve(models={"m": noting.path})
    noting.forget()
    wire = connect(server)
    for _ in range(3):
        assert "age" not in ask(wire, 2).headers
    assert noting.runs() == ["2"] * 3
    (version,) = server.request("GET", "/models/m").json()["versions"]
    assert version["cache"] is None


def test_errors_are_not_kept(cached: Server, noting: Noting, connect: Callable[..., Wire]) -> None:
    wire = connect(cached)
    for _ in range(2):
        assert ask(wire, -1).json()["code"] == "model_error"
    assert set(noting.runs()) == {"-1"} and len(noting.runs()) >= 2
    assert cache_of(cached)["rows"] == 0


def test_request_may_want_a_run(cached: Server, noting: Noting, connect: Callable[..., Wire]) -> None:
    wire = connect(cached)
    for wanted in ("no-cache", "no-store", "max-age=0"):
        assert "age" not in ask(wire, 2, Cache_Control=wanted).headers
    assert len(noting.runs()) == 3
    assert "age" in ask(wire, 2).headers


def test_answer_is_old_after_its_time(
    serve: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    server = serve(models={"m": noting.path}, env={"PENSTOCK_CACHE_TTL_S": "1"})
    noting.forget()
    wire = connect(server)
    begun = time.monotonic()
    assert answer(ask(wire, 2)) == 6
    known = True
    while known:
        assert time.monotonic() < begun + DEADLINE_SECONDS
        reply = ask(wire, 2)
        known = "age" in reply.headers
        if known:
            assert reply.headers["age"] == "0"  # at 1 it is too old
    assert time.monotonic() > begun + 0.99
    assert noting.runs() == ["2", "2"]


# --- rows that run now ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["1", "2"], ids=["one loop", "two loops"])
def gated(request: pytest.FixtureRequest, serve: Callable[..., Server], gate: Gate) -> Server:
    return serve("--io-threads", request.param, models={"m": gate.path}, env={"PENSTOCK_CACHE_TTL_S": "3600"})


def rows_claimed(server: Server) -> int:
    (version,) = server.request("GET", "/models/m").json()["versions"]
    return int(version["counters"]["rows_claimed"])


def test_equal_requests_at_once_run_once(gated: Server, gate: Gate, connect: Callable[..., Wire]) -> None:
    before = rows_claimed(gated)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, connect(gated), Gate.HOLD, **RECEIPT)
        gate.wait_until_reached()
        others = [pool.submit(ask, connect(gated), Gate.HOLD, **RECEIPT) for _ in range(7)]
        until(lambda: cache_of(gated)["coalesced"] == 7, "seven wait")
        gate.open()
        assert answer(first.result(DEADLINE_SECONDS)) == 2 * Gate.HOLD
        for other in others:
            reply = other.result(DEADLINE_SECONDS)
            assert answer(reply) == 2 * Gate.HOLD
            assert reply.headers["x-penstock-cache"] == "coalesced" and "age" not in reply.headers
    assert rows_claimed(gated) == before + 1


def test_first_client_that_leaves_strands_nobody(gated: Server, gate: Gate, connect: Callable[..., Wire]) -> None:
    before = rows_claimed(gated)
    with ThreadPoolExecutor(1) as pool:
        with closing(Wire.connect(gated.host, gated.port)) as first:
            body = json.dumps({"inputs": [Gate.HOLD, 0, 0, 0]}).encode()
            first.send(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            gate.wait_until_reached()
            second = pool.submit(ask, connect(gated), Gate.HOLD)
            until(lambda: cache_of(gated)["coalesced"] == 1, "one waits")
            # A reset: after a mere end of what it sends it might still read.
            first.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone = b'penstock_rows_cancelled_total{model="m",version="1"} 1.0'
        until(lambda: gone in gated.request("GET", "/metrics").body, "the first one is gone")
        gate.open()
        assert answer(second.result(DEADLINE_SECONDS)) == 2 * Gate.HOLD
    assert rows_claimed(gated) == before + 1


# --- versions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    running = Node(tmp_path)
    yield running
    running.stop()


def test_new_version_answers_itself(node: Node, tmp_path: Path) -> None:
    row = [2.0, 0.0, 0.0, 0.0]
    for version in range(2, 6):
        model = Noting(tmp_path, f"v{version}", factor=version)
        node.register(model.path, f"{version}.0.0", settings={"cache_ttl_s": 3600})
        node.promote(f"{version}.0.0")
        model.forget()
        for _ in range(5):
            status, reply = node.answer(row)
            assert (status, reply["version"], reply["outputs"]["y"][0]) == (200, f"{version}.0.0", 2 * version)
        assert model.runs() == ["2"]
