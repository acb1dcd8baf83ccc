"""Compressed bodies both ways on a real server: every route, both codings, and what is cut, damaged or a bomb."""

import gzip
import json
import random
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import zstandard

from bench.wire import Reply, Wire, request_bytes
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
BODY = b'{"model":"affine","inputs":[1,2,3,4]}'
Y = [3, 5, 7, 9]

COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
# 4 values, then 100,000: decoded and answered by the threads for large bodies.
SOURCE = """
from penstock.worker import Tensor


class Model:
    inputs = {"x": Tensor("float32", (%d,))}
    outputs = {"y": Tensor("float32", (%d,))}

    def predict(self, inputs):
        return {"y": 2 * inputs["x"] + 1}
"""
WIDE = 100_000


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that compresses replies."""
    folder = tmp_path_factory.mktemp("compressing")
    for name, width in (("affine", 4), ("wide", WIDE)):
        (folder / f"{name}.py").write_text(SOURCE % (width, width))
    variables = {"PENSTOCK_COMPRESS": "true", "PENSTOCK_BODY_POOL_BYTES": "16MiB"}
    running = Server.start([f"{name}={folder / name}.py" for name in ("affine", "wide")], folder, variables)
    yield running
    running.stop()


@pytest.fixture
def asked(compressing: Server, connect: Callable[..., Wire]) -> Wire:
    """A connection to it."""
    return connect(compressing)


def decompressed(reply: Reply) -> bytes:
    coding = reply.headers["content-encoding"]
    if coding == "gzip":
        return gzip.decompress(reply.body)
    return zstandard.ZstdDecompressor().decompress(reply.body, max_output_size=1 << 26)


def outputs(reply: Reply) -> object:
    assert reply.status == 200, reply.body[:300]
    return reply.json()["outputs"]["y"]


def wide_body() -> tuple[bytes, list[int]]:
    draw = random.Random(7)
    values = [draw.randrange(1 << 20) for _ in range(WIDE)]
    return json.dumps({"model": "wide", "inputs": values}).encode(), [2 * value + 1 for value in values]


@pytest.mark.parametrize("coding", COMPRESS)
def test_compressed_request(wire: Wire, coding: str) -> None:
    packed = COMPRESS[coding](BODY)
    for name in (coding, coding.upper()):
        assert outputs(wire.ask("POST", "/predict", packed, JSON | {"Content-Encoding": name})) == Y
    assert outputs(wire.ask("POST", "/predict", BODY, JSON | {"Content-Encoding": "identity"})) == Y


@pytest.mark.parametrize("coding", COMPRESS)
def test_compressed_request_in_pieces(wire: Wire, coding: str) -> None:
    packed = COMPRESS[coding](BODY)
    whole = request_bytes("POST", "/predict", packed, JSON | {"Content-Encoding": coding})
    for split in range(1, len(whole), 7):
        wire.send(whole[:split])
        wire.send(whole[split:])
        assert outputs(wire.reply()) == Y, f"split at {split}"
    fields = JSON | {"Content-Encoding": coding, "Transfer-Encoding": "chunked"}
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (packed[:5], packed[5:]))
    wire.send(request_bytes("POST", "/predict", None, fields) + chunks + b"0\r\n\r\n")
    assert outputs(wire.reply()) == Y


@pytest.mark.parametrize("coding", COMPRESS)
def test_continue_goes_with_compression(wire: Wire, coding: str) -> None:
    packed = COMPRESS[coding](BODY)
    fields = JSON | {"Content-Encoding": coding, "Content-Length": str(len(packed)), "Expect": "100-continue"}
    wire.send(request_bytes("POST", "/predict", None, fields))
    assert wire.next_reply().status == 100
    wire.send(packed)
    assert outputs(wire.next_reply()) == Y
    wire.send(request_bytes("POST", "/predict", None, fields | {"Content-Encoding": "br"}))
    assert wire.next_reply().status == 415


@pytest.mark.parametrize("coding", COMPRESS)
def test_large_bodies_both_ways(asked: Wire, coding: str) -> None:
    body, expected = wide_body()
    packed = COMPRESS[coding](body)
    assert 16 * 1024 < len(packed) < len(body)
    reply = asked.ask("POST", "/predict", packed, JSON | {"Content-Encoding": coding, "Accept-Encoding": coding})
    assert reply.status == 200
    assert len(reply.body) < len(body)
    assert json.loads(decompressed(reply))["outputs"]["y"] == expected


def test_replies_keep_their_order(asked: Wire) -> None:
    body, expected = wide_body()
    large = request_bytes("POST", "/predict", body, JSON | {"Accept-Encoding": "gzip"})
    live = request_bytes("GET", "/health/live")
    asked.send(large + live + request_bytes("POST", "/predict", BODY, JSON))
    assert json.loads(decompressed(asked.reply()))["outputs"]["y"] == expected
    assert asked.reply().json() == {"status": "live"}
    assert outputs(asked.reply()) == Y


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("target", ["/openapi.json", "/metrics"])
def test_answers_of_the_control_plane_are_compressed(asked: Wire, coding: str, target: str) -> None:
    plain = asked.ask("GET", target)
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == "Accept-Encoding"
    reply = asked.ask("GET", target, None, {"Accept-Encoding": f"br, {coding}"})
    assert reply.headers["content-encoding"] == coding
    assert reply.headers["vary"] == "Accept-Encoding"
    assert len(reply.body) < len(plain.body) / 2
    if target != "/metrics":  # counters move
        assert decompressed(reply) == plain.body
    head = asked.ask("HEAD", target, None, {"Accept-Encoding": coding})
    assert (head.status, head.body) == (200, b"")


def test_short_replies_are_left_alone(asked: Wire) -> None:
    reply = asked.ask("POST", "/predict", BODY, JSON | {"Accept-Encoding": "gzip"})
    assert outputs(reply) == Y
    assert "content-encoding" not in reply.headers
    # It would not get smaller, so that identity is what remains.
    refused = asked.ask("GET", "/health/live", None, {"Accept-Encoding": "gzip, identity;q=0"})
    assert refused.json() == {"status": "live"}
    # Here it does, though nobody would have bothered.
    refused = asked.ask("GET", "/models", None, {"Accept-Encoding": "gzip, identity;q=0"})
    assert json.loads(decompressed(refused))["models"]


def test_nothing_is_compressed_unless_it_is_asked_for(wire: Wire) -> None:
    reply = wire.ask("GET", "/openapi.json", None, {"Accept-Encoding": "gzip, zstd"})
    assert not {"content-encoding", "vary"} & set(reply.headers)


def assert_problem(reply: Reply, status: int, code: str) -> str:
    assert (reply.status, reply.json()["code"]) == (status, code)
    return str(reply.json()["detail"])


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "identity, gzip", "compress", "gzip;q=1"])
@pytest.mark.parametrize("target", ["/predict", "/models", "/keys"])
def test_other_codings_are_refused(wire: Wire, coding: str, target: str) -> None:
    reply = wire.ask("POST", target, BODY, JSON | {"Content-Encoding": coding})
    detail = assert_problem(reply, 415, "unsupported_content_encoding")
    assert coding in detail
    assert reply.headers["accept-encoding"] == "gzip, zstd"
    assert wire.ask("GET", "/health/live").status == 200  # the connection is kept


def test_other_types_say_nothing_of_codings(wire: Wire) -> None:
    reply = wire.ask("POST", "/predict", BODY, {"Content-Type": "application/x-nothing"})
    assert_problem(reply, 415, "unsupported_media_type")
    assert "accept-encoding" not in reply.headers


@pytest.mark.parametrize("coding", COMPRESS)
def test_damaged_bodies(wire: Wire, coding: str) -> None:
    fields = JSON | {"Content-Encoding": coding}
    packed = COMPRESS[coding](BODY)
    for end in range(1, len(packed)):
        reply = wire.ask("POST", "/predict", packed[:end], fields)
        assert "ends after" in assert_problem(reply, 400, "malformed_body")
    detail = assert_problem(wire.ask("POST", "/predict", packed + b"more", fields), 400, "malformed_body")
    assert f"{coding} byte {len(packed)}: something follows" in detail
    assert "damaged" in assert_problem(wire.ask("POST", "/predict", BODY, fields), 400, "malformed_body")
    assert outputs(wire.ask("POST", "/predict", packed, fields)) == Y


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("body_bytes", [4_000_000, 1 << 30])
def test_bomb_costs_the_bound_at_most(compressing: Server, asked: Wire, coding: str, body_bytes: int) -> None:
    packed = bomb(coding, body_bytes)
    process = psutil.Process(compressing.process.pid)
    before = process.memory_info().rss
    for _ in range(20):
        reply = asked.ask("POST", "/predict?model=affine", packed, JSON | {"Content-Encoding": coding})
        assert_problem(reply, 413, "body_too_large")
        if reply.headers.get("connection") == "close":
            break
    # A window and a context of the library, and never what the body claims to be.
    assert process.memory_info().rss - before < 32 << 20


def bomb(coding: str, body_bytes: int) -> bytes:
    zeros = bytes(1 << 20)
    if coding == "gzip":
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        pieces = [packer.compress(zeros[: min(len(zeros), body_bytes - at)]) for at in range(0, body_bytes, len(zeros))]
        return b"".join(pieces) + packer.flush()
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    pieces = [packer.compress(zeros[: min(len(zeros), body_bytes - at)]) for at in range(0, body_bytes, len(zeros))]
    return b"".join(pieces) + packer.flush()


def test_window_beyond_what_the_standard_lets_a_sender_expect(wire: Wire) -> None:
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    packed = packer.compress(BODY) + packer.flush()
    reply = wire.ask("POST", "/predict", packed, JSON | {"Content-Encoding": "zstd"})
    assert "RFC 9659" in assert_problem(reply, 400, "malformed_body")


def test_compressed_body_of_the_control_plane(wire: Wire) -> None:
    # Who asks is looked at first: no key, no work.
    packed = gzip.compress(b'{"name": "me", "role": "admin"}')
    reply = wire.ask("POST", "/keys", packed, JSON | {"Content-Encoding": "gzip"})
    assert_problem(reply, 401, "unauthorized")
    read = wire.ask("GET", "/models", packed, JSON | {"Content-Encoding": "gzip"})
    assert read.status == 200


def test_curl_reads_what_it_asked_for(compressing: Server, tmp_path: Path) -> None:
    plain = compressing.request("GET", "/openapi.json").body
    read = subprocess.run(
        ["curl", "-sS", "--compressed", f"{compressing.url}/openapi.json"], capture_output=True, check=True
    )
    assert read.stdout == plain


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("wide", [False, True])
def test_http_2_does_both(compressing: Server, tmp_path: Path, coding: str, wide: bool) -> None:
    body, expected = wide_body() if wide else (BODY, Y)
    (tmp_path / "body").write_bytes(COMPRESS[coding](body))
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{tmp_path / 'body'}", "-o", "reply"]
    command += ["-D", "head", "-H", "Content-Type: application/json", "-H", f"Content-Encoding: {coding}"]
    command += ["-H", f"Accept-Encoding: {coding}", f"{compressing.url}/predict"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    head = (tmp_path / "head").read_text()
    answer = (tmp_path / "reply").read_bytes()
    assert head.startswith("HTTP/2 200")
    assert (f"content-encoding: {coding}" in head) == wide  # the other is too short
    if wide:
        answer = decompressed(Reply(200, {"content-encoding": coding}, answer))
    assert json.loads(answer)["outputs"]["y"] == expected
