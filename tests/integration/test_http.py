"""HTTP/1.1 on the wire: framing, order, patience, and everything that two servers could understand differently."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench.wire import ClosedError, Reply, Wire, request_bytes
from tests.integration.gate import Gate
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
BODY = b'{"model":"affine","inputs":[1,2,3,4]}'
PREDICT = request_bytes("POST", "/predict", BODY, JSON)
LIVE = request_bytes("GET", "/health/live")


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    return request_bytes("POST", "/predict", None, JSON | {"Transfer-Encoding": "chunked"}) + body


def outputs(reply: Reply) -> object:
    assert reply.status == 200, reply.body
    return reply.json()["outputs"]["y"]


def test_connection_stays_open(wire: Wire) -> None:
    for _ in range(3):
        wire.send(PREDICT)
        assert outputs(wire.reply()) == [3, 5, 7, 9]


def test_request_may_arrive_byte_by_byte(wire: Wire) -> None:
    for byte in PREDICT:
        wire.send(bytes([byte]))
    assert outputs(wire.reply()) == [3, 5, 7, 9]


@pytest.mark.parametrize("request_", [PREDICT, chunked(BODY[:7], BODY[7:])], ids=["length", "chunked"])
def test_request_may_be_split_anywhere(wire: Wire, request_: bytes) -> None:
    for split in range(1, len(request_)):
        wire.send(request_[:split])
        wire.send(request_[split:])
        assert outputs(wire.reply()) == [3, 5, 7, 9], f"split at {split}"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16])
def test_chunks_may_have_any_size(wire: Wire, size: int) -> None:
    wire.send(chunked(*(BODY[start : start + size] for start in range(0, len(BODY), size))))
    assert outputs(wire.reply()) == [3, 5, 7, 9]


def test_chunk_extensions_and_trailers_are_passed_over(wire: Wire) -> None:
    head = request_bytes("POST", "/predict", None, JSON | {"Transfer-Encoding": "chunked"})
    wire.send(head + b'25;name=value;other="quoted"\r\n' + BODY + b"\r\n000\r\nX-Checksum: 1\r\n\r\n")
    assert len(BODY) == 0x25
    assert outputs(wire.reply()) == [3, 5, 7, 9]
    wire.send(LIVE)
    assert wire.reply().status == 200


def test_continue_is_sent_before_the_body(wire: Wire) -> None:
    head, _, body = PREDICT.partition(b"\r\n\r\n")
    wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n")
    assert wire.next_reply().status == 100
    wire.send(body)
    assert outputs(wire.next_reply()) == [3, 5, 7, 9]


def test_continue_is_not_sent_to_a_body_that_will_be_refused(wire: Wire) -> None:
    fields = JSON | {"Expect": "100-continue", "Content-Length": str(1 << 40)}
    wire.send(request_bytes("POST", "/predict?model=affine", None, fields))
    assert wire.next_reply().status == 413


def test_continue_is_not_sent_when_the_body_is_there(wire: Wire) -> None:
    wire.send(request_bytes("POST", "/predict", BODY, JSON | {"Expect": "100-continue"}))
    assert wire.next_reply().status == 200


@pytest.mark.parametrize("target", ["/health/live", "/models", "/metrics", "/nothing"])
def test_head_is_get_without_the_body(wire: Wire, target: str) -> None:
    got = wire.ask("GET", target)
    head = wire.ask("HEAD", target)
    assert (head.status, head.body) == (got.status, b"")
    if target != "/metrics":  # counters move
        ids = {"x-request-id", "date"}
        assert {name: value for name, value in head.headers.items() if name not in ids} == {
            name: value for name, value in got.headers.items() if name not in ids
        }
    assert wire.ask("GET", "/health/live").status == 200


def test_http_1_0_closes_unless_asked(server: Server, connect: Callable[..., Wire]) -> None:
    wire = connect(server)
    wire.send(b"GET /health/live HTTP/1.0\r\n\r\n")
    assert wire.reply().status == 200
    assert wire.is_closed_by_server()
    wire = connect(server)
    for _ in range(2):
        wire.send(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert wire.reply().headers["connection"].lower() == "keep-alive"


def test_connection_close_is_honoured(wire: Wire) -> None:
    wire.send(request_bytes("POST", "/predict", BODY, JSON | {"Connection": "close"}) + PREDICT)
    reply = wire.reply()
    assert (outputs(reply), reply.headers["connection"].lower()) == ([3, 5, 7, 9], "close")
    assert wire.is_closed_by_server()


def test_half_closed_client_gets_its_answers(wire: Wire) -> None:
    wire.send(PREDICT * 3)
    wire.shut_writing()
    assert [outputs(wire.reply()) for _ in range(3)] == [[3, 5, 7, 9]] * 3
    assert wire.is_closed_by_server()


def test_absolute_target(wire: Wire) -> None:
    wire.send(PREDICT.replace(b"POST /predict", b"POST http://elsewhere:80/predict"))
    assert outputs(wire.reply()) == [3, 5, 7, 9]


def test_pipelined_replies_come_in_order(wire: Wire) -> None:
    """More than the server keeps under way at once, of every kind: fast path, health, control plane, refusals."""
    kinds = [
        (PREDICT, 200),
        (request_bytes("POST", "/predict", b"{", JSON), 400),
        (LIVE, 200),
        (request_bytes("GET", "/models"), 200),
        (request_bytes("GET", "/nothing"), 404),
        (request_bytes("POST", "/predict", b'{"model":"mlp","inputs":[%s]}' % b",".join([b"1"] * 32), JSON), 200),
    ]
    order = [index * 7 % len(kinds) for index in range(200)]
    for index, kind in enumerate(order):
        request_, _ = kinds[kind]
        wire.send(request_.replace(b"\r\n\r\n", b"\r\nX-Request-Id: n%d\r\n\r\n" % index, 1))
    for index, kind in enumerate(order):
        reply = wire.reply()
        assert (reply.headers["x-request-id"], reply.status) == (f"n{index}", kinds[kind][1])


def test_fast_answer_waits_for_the_slow_one_before_it(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate, model_folder: Path
) -> None:
    server = serve(models={"gated": gate.path, "affine": model_folder / "affine.onnx"})
    first, second = connect(server), connect(server)
    slow = request_bytes(
        "POST", "/predict", json.dumps({"model": "gated", "inputs": [Gate.HOLD, 0, 0, 0]}).encode(), JSON
    )
    first.send(slow + PREDICT + LIVE)
    gate.wait_until_reached()
    second.send(PREDICT + LIVE)
    assert [outputs(second.reply()), second.reply().status] == [[3, 5, 7, 9], 200]  # nobody else waits
    gate.open()
    assert [outputs(first.reply()), outputs(first.reply())] == [[2 * Gate.HOLD, 0, 0, 0], [3, 5, 7, 9]]
    assert first.reply().json() == {"status": "live"}


TWO_LENGTHS = b"Content-Length: 5\r\nContent-Length: 6\r\n"
AMBIGUOUS = {
    "two lengths": TWO_LENGTHS,
    "same length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "list of lengths": b"Content-Length: 5, 5\r\n",
    "length and chunked": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "negative length": b"Content-Length: -5\r\n",
    "signed length": b"Content-Length: +5\r\n",
    "length with a point": b"Content-Length: 5.0\r\n",
    "hexadecimal length": b"Content-Length: 0x5\r\n",
    "length over 64 bits": b"Content-Length: 36893488147419103237\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n",
    "two transfer codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "quoted chunked": b'Transfer-Encoding: "chunked"\r\n',
    "vertical tab before chunked": b"Transfer-Encoding: \x0bchunked\r\n",
    "space before the colon": b"Content-Length : 5\r\n",
    "folded field": b"Content-Length: 5\r\nX-Folded: a\r\n b\r\n",
    "folded first field": b" Content-Length: 5\r\n",
    "bare LF": b"Content-Length: 5\nX-Other: 1\r\n",
    "bare CR": b"Content-Length: 5\rX-Other: 1\r\n",
    "NUL in a value": b"Content-Length: 5\r\nX-Other: a\0b\r\n",
    "two hosts": b"Host: y\r\nContent-Length: 5\r\n",
    "field without a name": b": value\r\nContent-Length: 5\r\n",
    "space in a name": b"X Other: 1\r\nContent-Length: 5\r\n",
}


@pytest.mark.parametrize("fields", list(AMBIGUOUS.values()), ids=list(AMBIGUOUS))
def test_ambiguous_request_ends_the_connection(wire: Wire, fields: bytes) -> None:
    """A second request hidden behind the ambiguity must never be answered."""
    wire.send(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n0\r\n\r\n" + LIVE)
    reply = wire.reply()
    assert reply.status == 400 and reply.json()["code"] == "malformed_request"
    assert reply.headers["connection"].lower() == "close"
    assert wire.is_closed_by_server()


OTHER_HEADS = {
    "chunked in HTTP/1.0": b"POST /predict HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /health/live HTTP/1.1\r\n\r\n",
    "bare LF everywhere": b"GET /health/live HTTP/1.1\nHost: x\n\n",
    "two spaces": b"GET  /health/live HTTP/1.1\r\nHost: x\r\n\r\n",
    "lower-case version": b"GET /health/live http/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /health/live\r\n\r\n",
}
BAD_CHUNKS = {
    "not hexadecimal": b"xyz\r\n",
    "no size": b"\r\n",
    "signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    "size over 64 bits": b"fffffffffffffffff\r\n",
    "bare LF behind the size": b"5\nhello\r\n0\r\n\r\n",
    "data longer than its size": b"3\r\nhello\r\n0\r\n\r\n",
    "bare LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "bare LF in the trailer": b"0\r\nX-A: 1\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(
    "sent",
    [*OTHER_HEADS.values(), *(chunked()[: -len(b"0\r\n\r\n")] + bad for bad in BAD_CHUNKS.values())],
    ids=[*OTHER_HEADS, *(f"chunk: {name}" for name in BAD_CHUNKS)],
)
def test_malformed_framing_ends_the_connection(wire: Wire, sent: bytes) -> None:
    wire.send(sent + LIVE)
    assert wire.reply().status == 400
    assert wire.is_closed_by_server()


@pytest.fixture
def impatient(serve: Callable[..., Server], model_folder: Path) -> Server:
    """A server that closes slow connections at once, but waits for models as usual."""
    timeouts = {f"PENSTOCK_{phase}_TIMEOUT_MS": "150" for phase in ("HEAD", "BODY")}
    return serve(models={"affine": model_folder / "affine.onnx"}, env=timeouts)


def drip(wire: Wire, request_: bytes) -> Iterator[Reply]:
    """Send byte after byte until the server has had enough; what it says then."""
    wire.socket.settimeout(0.01)
    for byte in request_:
        try:
            wire.send(bytes([byte]))
            yield wire.reply()
            return
        except TimeoutError:
            continue  # no answer yet: the next byte
        except (ClosedError, ConnectionError):
            return


@pytest.mark.parametrize(
    "start", [b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: ", PREDICT.replace(b": 37", b": 7000")]
)
def test_slow_request_is_cut_off(impatient: Server, connect: Callable[..., Wire], start: bytes) -> None:
    wire = connect(impatient)
    wire.send(start)
    replies = list(drip(wire, b" " * 5000))
    assert [reply.status for reply in replies] == [408]
    wire.socket.settimeout(300)
    assert wire.is_closed_by_server()


def test_idle_connection_is_closed(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path
) -> None:
    server = serve(models={"affine": model_folder / "affine.onnx"}, env={"PENSTOCK_IDLE_TIMEOUT_MS": "150"})
    assert connect(server).is_closed_by_server()
    statuses: list[int] = []
    for _ in range(1000):  # on a busy machine it may be closed before it asks
        wire = connect(server)
        with suppress(ClosedError, ConnectionError):
            wire.send(LIVE)
            statuses.append(wire.reply().status)
        if statuses:
            break
    assert statuses == [200]
    assert wire.is_closed_by_server()


def test_unix_socket(serve: Callable[..., Server], model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "public.sock"
    serve("--unix-socket", str(path), models={"affine": model_folder / "affine.onnx"})
    with Wire.connect_unix(str(path)) as wire:
        wire.send(PREDICT + LIVE)
        assert [outputs(wire.reply()), wire.reply().status] == [[3, 5, 7, 9], 200]
        assert wire.ask("GET", "/models").status == 200


def test_ipv6(serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path) -> None:
    server = serve("--host", "::1", models={"affine": model_folder / "affine.onnx"})
    wire = connect(server)
    wire.send(PREDICT)
    assert outputs(wire.reply()) == [3, 5, 7, 9]
