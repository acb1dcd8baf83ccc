"""The supervisor's and the worker's messages over a real socket pair."""

import json
import os
import socket
from collections.abc import Iterator

import pytest

from penstock.worker.messages import (
    Attach,
    CostSample,
    Failed,
    Load,
    Loaded,
    Measured,
    Message,
    ModelToLoad,
    ProtocolError,
    Ready,
    Stop,
)
from penstock.worker.model import ModelSpec, TensorSpec
from penstock.worker.placement import Placement
from penstock.worker.protocol import receive, send

Pair = tuple[socket.socket, socket.socket]

SPEC = ModelSpec(
    inputs=(TensorSpec("x", "float32", (2, 3)), TensorSpec("n", "int64", (8,), True)),
    outputs=(TensorSpec("p", "float16", (3,)),),
    max_batch_size=16,
    labels={"p": ("a", "b", 7)},
    record="digest",
)


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    "message",
    [
        Load(5, (ModelToLoad("m", "2", "/models/m.onnx", "auto", 3, 0.5), ModelToLoad("n", "1", "n.py", "python"))),
        Load(63, (), Placement((0, 2, 8191), 1)),
        Loaded(0, "onnx", SPEC, rerun=True),
        Loaded(7, "python", ModelSpec(SPEC.inputs, SPEC.outputs), rerun=False),
        Failed("it is broken: ü"),
        Failed("it is broken, too", 3),
        Attach((3,), 2),
        Attach((3, 0, 4), 1, "round-robin", quarantine=True),
        Measured(1, (CostSample(1, 0.25), CostSample(64, 1e-6))),
        Ready(0.25, 1.5),
        Stop(),
    ],
    ids=lambda message: type(message).__name__,
)
def test_every_message_arrives_as_it_was_sent(pair: Pair, message: Message) -> None:
    send(pair[0], message)
    assert receive(pair[1]) == (message, [])


def test_descriptors_travel_beside_a_message(pair: Pair) -> None:
    reader, writer = os.pipe()
    send(pair[0], Attach((0,), 0), [writer])
    received = receive(pair[1])
    assert received is not None
    copy = received[1][0]
    os.write(copy, b"through")
    assert os.read(reader, 16) == b"through"
    for descriptor in (reader, writer, copy):
        os.close(descriptor)


def test_the_end_is_none(pair: Pair) -> None:
    pair[0].close()
    assert receive(pair[1]) is None


def loaded(**changes: object) -> dict[str, object]:
    members: dict[str, object] = {
        "kind": "loaded",
        "model": 0,
        "backend": "onnx",
        "rerun": True,
        "inputs": [["x", "float32", [4], False, "", None]],
        "outputs": [["y", "float32", [], False, "", None]],
        "max_batch_size": None,
        "labels": {},
        "record": "",
    }
    return members | changes


def test_the_unchanged_message_is_accepted(pair: Pair) -> None:
    pair[0].send(json.dumps(loaded()).encode())
    received = receive(pair[1])
    assert received is not None
    assert isinstance(received[0], Loaded)


@pytest.mark.parametrize(
    "packet",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"kind": "format"}',
        b'{"kind": ["stop"]}',
        b"\xff\xfe",
        b'{"kind": "attach", "rings": [true], "loops": 1, "policy": "deadline", "quarantine": false}',
        b'{"kind": "attach", "rings": [-1], "loops": 1, "policy": "deadline", "quarantine": false}',
        b'{"kind": "attach", "rings": 1, "loops": 1, "policy": "deadline", "quarantine": false}',
        b'{"kind": "attach", "rings": [1], "loops": 1e3, "policy": "deadline", "quarantine": false}',
        b'{"kind": "attach", "rings": [1], "loops": 1, "policy": "deadline", "quarantine": 0}',
        b'{"kind": "load", "worker": 1, "models": [3], "placement": {"cpus": [], "numa_node": null}}',
        b'{"kind": "load", "worker": 1, "models": [], "placement": null}',
        b'{"kind": "load", "worker": 1, "models": [], "placement": {"cpus": [8192], "numa_node": null}}',
        b'{"kind": "load", "worker": 1, "models": [], "placement": {"cpus": [], "numa_node": -1}}',
        b'{"kind": "measured", "model": 0, "samples": [[1]]}',
        b'{"kind": "measured", "model": 0, "samples": [[1, 1, 0.5]]}',
        b'{"kind": "measured", "model": 0, "samples": [[1.5, 1, 0]]}',
        b'{"kind": "measured", "model": 0, "samples": [[1, -1, 0]]}',
        b'{"kind": "measured", "model": 0, "samples": [[1, NaN, 0]]}',
        b'{"kind": "measured", "model": 0, "samples": [[1, Infinity, 0]]}',
        b'{"kind": "ready", "load_seconds": "1", "warmup_seconds": 0}',
        json.dumps(loaded(rerun=1)).encode(),
        json.dumps(loaded(inputs=None)).encode(),
        json.dumps(loaded(inputs=[["x", "float32"]])).encode(),
        json.dumps(loaded(inputs=[["x", "object", [4], False, "", None]])).encode(),
        json.dumps(loaded(inputs=[["x", "float32", [-4], False, "", None]])).encode(),
        json.dumps(loaded(inputs=[["x", "float32", [2**31], False, "", None]])).encode(),
        json.dumps(loaded(inputs=[["x", "float32", ["N"], False, "", None]])).encode(),
        json.dumps(loaded(inputs=[["x", "float32", [4], 1, "", None]])).encode(),
        json.dumps(loaded(inputs=[["x", "float32", [], True, "", None]])).encode(),
        json.dumps(loaded(max_batch_size="many")).encode(),
        json.dumps(loaded(labels={"y": 3})).encode(),
    ],
)
def test_what_is_no_message_is_refused(pair: Pair, packet: bytes) -> None:
    pair[0].send(packet)
    with pytest.raises(ProtocolError):
        receive(pair[1])


def test_descriptors_of_a_refused_message_are_closed(pair: Pair) -> None:
    reader, writer = os.pipe()
    socket.send_fds(pair[0], [b"nonsense"], [writer])
    os.close(writer)
    with pytest.raises(ProtocolError):
        receive(pair[1])
    assert os.read(reader, 1) == b"", "somebody still holds the writing end"
    os.close(reader)


def test_a_message_that_fits_no_packet_is_not_sent(pair: Pair) -> None:
    labels = {"p": tuple(f"class {number}" for number in range(20_000))}
    with pytest.raises(ProtocolError, match="too large"):
        send(pair[0], Loaded(0, "onnx", ModelSpec(SPEC.inputs, SPEC.outputs, None, labels), rerun=True))


def test_a_long_detail_is_cut(pair: Pair) -> None:
    send(pair[0], Failed("x" * 1_000_000))
    received = receive(pair[1])
    assert received is not None
    assert isinstance(received[0], Failed)
    assert 1000 < len(received[0].detail) < 10_000
