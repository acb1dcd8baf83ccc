"""The result cache for rows of many in one request, by every way of asking for them."""

from collections.abc import Callable
from pathlib import Path

import msgpack
import numpy as np
import orjson
import pytest

from tests.integration.noting import RECEIPT, Noting, cache_of
from tests.serving import Reply, Server

JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}


@pytest.fixture
def noting(tmp_path: Path) -> Noting:
    return Noting(tmp_path)


@pytest.fixture
def cached(serve: Callable[..., Server], noting: Noting) -> Server:
    server = serve(models={"m": noting.path}, env={"PENSTOCK_CACHE_TTL_S": "3600"})
    noting.forget()
    return server


def matrix(values: list[int]) -> np.ndarray:
    rows = np.zeros((len(values), 4), np.float32)
    rows[:, 0] = values
    return rows


def by_batch(server: Server, values: list[int]) -> tuple[Reply, list[float]]:
    body = orjson.dumps({"inputs": matrix(values).tolist()})
    reply = server.request("POST", "/predict/batch", body, JSON | RECEIPT)
    return reply, [output["y"][0] for output in reply.json()["outputs"]]


def by_msgpack(server: Server, values: list[int]) -> tuple[Reply, list[float]]:
    reply = server.request(
        "POST", "/predict/batch", msgpack.packb({"inputs": matrix(values).tobytes()}), MSGPACK | RECEIPT
    )
    return reply, [output["y"][0] for output in msgpack.unpackb(reply.body)["outputs"]]


def by_matrix(server: Server, values: list[int]) -> tuple[Reply, list[float]]:
    reply = server.request("POST", "/predict", matrix(values).tobytes(), RAW | RECEIPT)
    return reply, np.frombuffer(reply.body, np.float32).reshape(-1, 4)[:, 0].tolist()


def by_infer(server: Server, values: list[int]) -> tuple[Reply, list[float]]:
    rows = matrix(values)
    tensor = {"name": "x", "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
    reply = server.request("POST", "/v2/models/m/infer", orjson.dumps({"inputs": [tensor]}), JSON | RECEIPT)
    (output,) = reply.json()["outputs"]
    return reply, output["data"][::4]


def by_lines(server: Server, values: list[int]) -> tuple[Reply, list[float]]:
    lines = b"".join(orjson.dumps(row) + b"\n" for row in matrix(values).tolist())
    reply = server.request("POST", "/predict/batch?model=m", lines, {"Content-Type": "application/x-ndjson"} | RECEIPT)
    return reply, [orjson.loads(line)["outputs"]["y"][0] for line in reply.body.splitlines()]


WAYS = [by_batch, by_msgpack, by_matrix, by_infer, by_lines]


@pytest.mark.parametrize("way", WAYS)
def test_only_unknown_rows_run(
    way: Callable[[Server, list[int]], tuple[Reply, list[float]]],
    cached: Server,
    noting: Noting,
) -> None:
    reply, answers = way(cached, [*range(90), 5, 5, 5])
    assert reply.status == 200 and answers == [3.0 * value for value in [*range(90), 5, 5, 5]]
    assert sorted(map(float, noting.runs())) == list(range(90))
    noting.forget()
    reply, answers = way(cached, list(range(100)))
    assert answers == [3.0 * value for value in range(100)]
    assert sorted(map(float, noting.runs())) == list(range(90, 100))
    noting.forget()
    for other in WAYS:
        reply, answers = other(cached, list(range(99, -1, -1)))
        assert answers == [3.0 * value for value in range(99, -1, -1)]
        if other is not by_lines:  # whose head goes out before its rows are looked at
            assert reply.headers["x-penstock-cache"] == "hit" and int(reply.headers["age"]) >= 0
    assert noting.runs() == []


def test_statistics_count_rows(cached: Server) -> None:
    by_batch(cached, [1, 2, 3, 3])
    by_infer(cached, [1, 2, 9])
    counts = cache_of(cached)
    assert (counts["hits"], counts["misses"], counts["coalesced"]) == (2, 4, 1)
    (stats,) = cached.request("GET", "/v2/models/m/stats").json()["model_stats"]
    durations = stats["inference_stats"]
    assert (durations["cache_hit"]["count"], durations["cache_miss"]["count"]) == (2, 4)
    assert durations["cache_miss"]["ns"] > 0  # the first lookup is timed
