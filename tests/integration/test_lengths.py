"""Rows that vary in length, served: each answer is what the model says to the row alone, whatever runs beside it."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import onnxruntime
import pytest

from bench.wire import Wire, request_bytes
from tests import models
from tests.serving import Server

LENGTHS = (4, 8, 32)
MAX_TOKENS = 64
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
REPRODUCIBLE = {"X-Penstock-Reproducible": "true"}

# What a row is answered: itself backwards and the sum of the elements up to each, which needs its own length; and, so
# that the test can see them, rows and length of the batch that it ran in.
PADDED = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("int32", (None,))}
        outputs = {"back": Tensor("int32", (None,)), "sums": Tensor("int64", (None,)), "batch": Tensor("int64", (2,))}

        def predict(self, batch, *, lengths):
            x = batch["x"]
            if (x < 0).any():
                raise ValueError("below zero")
            assert lengths.dtype == np.int32 and lengths.shape == (len(x),)
            assert all((row[n:] == 0).all() for row, n in zip(x, lengths))
            back = np.full_like(x, 99)
            for row, n in enumerate(lengths):
                back[row, :n] = x[row, :n][::-1]
            return {"back": back, "sums": np.cumsum(x, axis=1), "batch": np.tile(x.shape, (len(x), 1))}
"""
RAGGED = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("int32", (None,)), "scale": Tensor("int32")}
        outputs = {"back": Tensor("int32", (None,)), "total": Tensor("int64"), "batch": Tensor("int64", (2,))}

        def predict(self, batch, cu_seqlens):
            x, scale = batch["x"], batch["scale"]
            if (x < 0).any():
                raise ValueError("below zero")
            assert cu_seqlens.dtype == np.int32 and cu_seqlens[0] == 0 and cu_seqlens[-1] == len(x)
            rows = [x[first:end] * k for first, end, k in zip(cu_seqlens[:-1], cu_seqlens[1:], scale, strict=True)]
            return {
                "back": np.concatenate([row[::-1] for row in rows]),
                "total": [row.sum() for row in rows],
                "batch": np.tile((len(rows), len(x)), (len(rows), 1)),
            }
"""
# Rows of up to 256 KiB, which travel beside the ring and are read and written by other threads.
LARGE = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (None, 4)), "y": Tensor("int32", (None,)), "z": Tensor("int8", (3,))}
        outputs = {"x": Tensor("float32", (None, 4)), "y": Tensor("int32", (None,)), "z": Tensor("int8", (3,))}

        def predict(self, batch, lengths):
            for name in ("x", "y"):
                assert all((row[n:] == 0).all() for row, n in zip(batch[name], lengths)), name
            return batch
"""
BATCH_SIZES = {"ragged": [4, 16]}
LARGE_LENGTHS = (64, 1024, 16384)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lengths")
    models.tokens(folder)
    for name, source in (("padded", PADDED), ("ragged", RAGGED), ("large", LARGE)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    return folder


@pytest.fixture(scope="module")
def uneven(folder: Path) -> Iterator[Server]:
    """A server with one model of each kind."""
    config = folder / "penstock.toml"
    lines = []
    for name, file in (("tokens", "tokens.onnx"), ("padded", "padded.py"), ("ragged", "ragged.py")):
        lines += ["[[models]]", f'name = "{name}"', f'path = "{folder / file}"', f"lengths = {list(LENGTHS)}"]
        lines += ["max_batch_size = 16", f"max_batch_tokens = {MAX_TOKENS}" if name != "ragged" else ""]
        lines += [f"batch_sizes = {BATCH_SIZES[name]}" if name in BATCH_SIZES else ""]
    lines += ["[[models]]", 'name = "large"', f'path = "{folder / "large.py"}"', f"lengths = {list(LARGE_LENGTHS)}"]
    config.write_text("\n".join(lines))
    running = Server.start(["--config", str(config)], folder)
    yield running
    running.stop()


@pytest.fixture
def wire(uneven: Server, connect: Callable[..., Wire]) -> Wire:
    return connect(uneven)


def ask(wire: Wire, model: str, inputs: Any, **headers: str) -> dict[str, Any]:
    reply = wire.ask("POST", "/predict", msgpack.packb({"model": model, "inputs": inputs}), MSGPACK | headers)
    assert reply.status == 200, reply.body
    outputs: dict[str, Any] = msgpack.unpackb(reply.body)["outputs"]
    return outputs


def refusal(wire: Wire, model: str, inputs: Any) -> tuple[int, str, str]:
    """Return status, code and detail; the same for both encodings."""
    packed = wire.ask("POST", "/predict", msgpack.packb({"model": model, "inputs": inputs}), MSGPACK)
    problem = packed.json()
    return packed.status, problem["code"], problem["detail"]


def random_rows(count: int, longest: int = LENGTHS[-1]) -> list[list[int]]:
    generator = np.random.default_rng(count)
    return [generator.integers(1, 20, generator.integers(1, longest + 1)).tolist() for _ in range(count)]


@pytest.mark.parametrize("length", range(1, LENGTHS[-1] + 1))
def test_each_length_is_answered_as_the_row_alone(wire: Wire, folder: Path, length: int) -> None:
    session = onnxruntime.InferenceSession(folder / "tokens.onnx", providers=["CPUExecutionProvider"])
    ids = np.random.default_rng(length).integers(0, 20, length)
    mask = np.float32([1] * length)
    states, mean = session.run(None, {"ids": ids[None], "mask": mask[None]})
    answer = ask(wire, "tokens", {"ids": ids.tolist(), "mask": mask.tolist()})
    np.testing.assert_array_equal(answer["states"], states[0])
    np.testing.assert_array_equal(answer["mean"], mean[0])


def test_mixed_lengths_at_once(uneven: Server, connect: Callable[..., Wire]) -> None:
    """Requests of all lengths to all models, pipelined, so that batches form."""
    wires = [connect(uneven) for _ in range(4)]
    rows = random_rows(400)
    seen: dict[str, set[tuple[int, int]]] = {"padded": set(), "ragged": set()}
    for begin in range(0, len(rows), 80):
        asked = [(wires[i % 4], "padded" if i % 2 else "ragged", row) for i, row in enumerate(rows[begin:][:80])]
        for wire, model, row in asked:
            inputs = {"x": row} if model == "padded" else {"x": row, "scale": len(row)}
            wire.send(request_bytes("POST", "/predict", msgpack.packb({"model": model, "inputs": inputs}), MSGPACK))
        for wire, model, row in asked:
            reply = wire.reply()
            assert reply.status == 200, reply.body
            outputs = msgpack.unpackb(reply.body)["outputs"]
            if model == "padded":
                assert outputs["back"] == row[::-1]
                assert outputs["sums"] == np.cumsum(row).tolist()
            else:
                assert outputs["back"] == [value * len(row) for value in row[::-1]]
                assert outputs["total"] == sum(row) * len(row)
            seen[model].add(tuple(outputs["batch"]))
            assert model == "ragged" or outputs["batch"][1] == next(size for size in LENGTHS if size >= len(row))
    assert all(rows * length <= MAX_TOKENS for rows, length in seen["padded"])
    assert {rows for rows, _ in seen["ragged"]} <= {4, 16}
    assert any(rows > 1 for rows, _ in seen["padded"]), "rows of one length bucket ran together"


def test_raw_bodies_give_the_length(wire: Wire) -> None:
    for length in (1, 4, 5, 32):
        row = np.arange(1, length + 1, dtype=np.int32)
        reply = wire.ask("POST", "/predict?model=padded&output=back", row.tobytes(), RAW)
        assert (reply.status, reply.body) == (200, row[::-1].tobytes())
    refused = wire.ask("POST", "/predict?model=padded&output=back", bytes(33 * 4), RAW)
    assert (refused.status, refused.json()["code"]) == (422, "invalid_input")
    assert refused.json()["detail"] == "inputs: expected 1 to 32 times 4 bytes, got 132 (int32 of shape [1 to 32])"


def test_other_lengths_are_refused(wire: Wire) -> None:
    too_long, none = "expected 1 to 32 values, got 33", "expected 1 to 32 values, got 0"
    assert refusal(wire, "padded", [1] * 33) == (422, "invalid_input", f"inputs: {too_long} (int32 of shape [1 to 32])")
    assert refusal(wire, "padded", []) == (422, "invalid_input", f"inputs: {none} (int32 of shape [1 to 32])")
    status, code, detail = refusal(wire, "tokens", {"ids": [1, 2, 3], "mask": [1, 1]})
    assert (status, code) == (422, "invalid_input")
    assert detail == "inputs.mask: expected 3 values, as in inputs.ids, got 2 (float32 of shape [1 to 32])"


@pytest.mark.parametrize("model", ["padded", "ragged"])
def test_one_bad_row_fails_alone(uneven: Server, connect: Callable[..., Wire], model: str) -> None:
    """The halves of a failed batch keep the lengths of their rows."""
    wires = [connect(uneven) for _ in range(8)]
    rows = [[5] * length for length in (5, 6, 7, 8)] * 2
    rows[3] = [-1] * 6
    for wire, row in zip(wires, rows, strict=True):
        inputs = {"x": row} if model == "padded" else {"x": row, "scale": 1}
        wire.send(request_bytes("POST", "/predict", msgpack.packb({"model": model, "inputs": inputs}), MSGPACK))
    for wire, row in zip(wires, rows, strict=True):
        reply = wire.reply()
        if row[0] < 0:
            assert (reply.status, reply.json()["code"]) == (500, "model_error")
            assert "below zero" in reply.json()["detail"]
        else:
            assert msgpack.unpackb(reply.body)["outputs"]["back"] == row


@pytest.mark.parametrize("length", [1, 63, 64, 65, 1024, 1025, 16383, 16384])
def test_large_rows(wire: Wire, length: int) -> None:
    generator = np.random.default_rng(length)
    x = generator.standard_normal((length, 4)).astype(np.float32)
    y = generator.integers(1, 1000, length).astype(np.int32)
    z = np.int8([1, 2, 3])
    for _ in range(2):  # the second one finds what the first one left
        answer = ask(wire, "large", {"x": x.tobytes(), "y": y.tobytes(), "z": z.tobytes()})
        np.testing.assert_array_equal(np.array(answer["x"], np.float32), x)
        assert (answer["y"], answer["z"]) == (y.tolist(), [1, 2, 3])
        raw = wire.ask(
            "POST",
            "/predict?model=large&output=y",
            msgpack.packb({"inputs": {"x": x.tobytes(), "y": y.tobytes(), "z": z.tobytes()}}),
            {**MSGPACK, "Accept": RAW["Accept"]},
        )
        assert raw.body == y.tobytes()
        x, y = x[: length // 2 + 1], y[: length // 2 + 1]


def test_reproducible_rows_run_alone_in_their_bucket(wire: Wire) -> None:
    for row in ([1, 2], [3] * 9):
        plain = ask(wire, "padded", {"x": row})
        fixed = ask(wire, "padded", {"x": row}, **REPRODUCIBLE)
        assert fixed["batch"] == [1, 4 if len(row) == 2 else 32]
        assert (fixed["back"], fixed["sums"]) == (plain["back"], plain["sums"])


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_load_has_rows_of_all_lengths(uneven: Server, encoding: str) -> None:
    command = [sys.executable, "-m", "penstock", "bench", uneven.url, "--model", "padded", "--encoding", encoding]
    command += ["--duration", "3", "--warm-up", "0.1", "--timeout", "300", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: the generator fell behind, as it may on a busy machine
    figures = json.loads(done.stdout)
    assert figures["errors"] == {}
    assert figures["requests"] > 0


def test_description_tells_what_varies(uneven: Server) -> None:
    (version,) = uneven.request("GET", "/models/tokens").json()["versions"]
    assert version["inputs"][0] == {"name": "ids", "dtype": "int64", "shape": [None]}
    assert version["outputs"] == [
        {"name": "states", "dtype": "float32", "shape": [None, 3]},
        {"name": "mean", "dtype": "float32", "shape": [3]},
    ]
    assert version["batching"]["lengths"] == list(LENGTHS)
    assert version["batching"]["max_batch_tokens"] == MAX_TOKENS
    # Warm-up has measured each bucket, in batches of as many rows as the tokens allow.
    costs = version["cost_by_length"]
    assert [cost["length"] for cost in costs] == list(LENGTHS)
    assert [cost["curve"][-1]["rows"] for cost in costs] == [16, 8, 2]
    assert all(cost["curve"][0]["mean_seconds"] > 0 for cost in costs)
    metrics = uneven.request("GET", "/metrics").body.decode()
    for length in LENGTHS:
        assert f'penstock_batch_cost_alarm{{length="{length}",model="tokens",version="1"}}' in metrics
