"""Hostile bodies: whatever bytes come, a codec takes exactly what the reference takes, and never breaks."""

import random
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.codecs import Codec, Refused, Row, Tensor, reference_json, reference_msgpack

MUTATIONS = 10_000
REFUSALS = {"malformed_body", "invalid_input", "model_not_found", "version_not_found", "contradiction"}
FLOATS = [Tensor("x", "float32", (3,))]
BYTES = [Tensor("x", "int8", (2, 2))]
THREE = [Tensor("x", "bool", (2,)), Tensor("y", "float64", ()), Tensor("\u00e9\n", "uint16", (0,))]
HALVES = [Tensor("x", "float16", (1, 2, 2))]
SCALAR = [Tensor("x", "uint64", ())]
EMPTY = [Tensor("x", "float32", (2, 0))]
UNEVEN = [Tensor("x", "int16", (3,), True), Tensor("y", "float32", (3, 2), True), Tensor("z", "bool", ())]
TOKENS = [Tensor("x", "uint8", (4,), True)]
TEXTS = [Tensor("x", "bytes", (3,)), Tensor("y", "bytes", ())]
WORDS = [Tensor("x", "bytes", (4,), True)]
SCHEMAS = [FLOATS, BYTES, THREE, HALVES, SCALAR, EMPTY, UNEVEN, TOKENS, TEXTS, WORDS]
JSON_BODIES = [
    (FLOATS, b'{"inputs":[1,-2.5,3e2]}'),
    (FLOATS, b'{"model":"m","version":"1","inputs":{"x":[1.5,"NaN","-Infinity"]}}'),
    (BYTES, b' { "inputs" : [ [1 , -128],[ 127,0] ] , "model" : "digits" } '),
    (THREE, '{"inputs":{"y":1e-5,"x":[true,false],"\\u00e9\\n":[]},"version":"\u00e4\\ud83d\\ude00"}'.encode()),
    (HALVES, b'{"inputs":[[[0.1,65504],[6e-8,-0]]],"version":"2"}'),
    (SCALAR, b'{"version":"latest","inputs":18446744073709551615}'),
    (EMPTY, b'{"inputs":[[],[]]}'),
    (UNEVEN, b'{"inputs":{"x":[1,2],"y":[[1,2],[3,4]],"z":true}}'),
    (TOKENS, b'{"inputs":[1,2,3]}'),
    (TEXTS, b'{"inputs":{"x":["","a\\u00e9","\\"\\n"],"y":"\\ud83d\\ude00"}}'),
    (WORDS, b'{"inputs":["\xc3\xa9","b"]}'),
]
# Pieces that turn one JSON text into another of interest.
JSON_PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b" ",
        b"\n",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\xff",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
    ),
    *(
        b"null",
        b"true",
        b"false",
        b"NaN",
        b"Infinity",
        b'"NaN"',
        b"1",
        b"-0",
        b"01",
        b"1.",
        b".5",
        b"1e5",
        b"1e400",
        b"300",
    ),
    *(
        b'"inputs"',
        b'"model":"a",',
        b'"version":1',
        b',"version":"3"',
        b'"entities":[]',
        b'"x"',
        b"\\u0041",
        b"\\ud800",
        b"\\x",
    ),
    *(b"[" * 70, b"]" * 70, b"9" * 40, b'"x":[1,2,3],', b"/*c*/"),
]
MSGPACK_VALUES = [
    (FLOATS, {"inputs": [1, -2.5, 3e2]}),
    (FLOATS, {"model": "m", "version": "1", "inputs": {"x": [1.5, float("nan"), float("-inf")]}}),
    (FLOATS, {"inputs": np.ones(3, np.float32).tobytes()}),
    (BYTES, {"inputs": [[1, -128], [127, 0]], "model": "digits"}),
    (THREE, {"inputs": {"y": 1e-5, "x": [True, False], "\u00e9\n": []}, "version": "\u00e4"}),
    (HALVES, {"inputs": [[[0.1, 65504], [6e-8, -0.0]]], "version": "2"}),
    (SCALAR, {"version": "latest", "inputs": 2**64 - 1}),
    (EMPTY, {"inputs": [[], []]}),
    (UNEVEN, {"inputs": {"x": [1, 2], "y": np.ones((2, 2), np.float32).tobytes(), "z": True}}),
    (TOKENS, {"inputs": [1, 2, 3]}),
    (TEXTS, {"inputs": {"x": ["", "a\u00e9", b"\xff"], "y": b"\0"}}),
    (WORDS, {"inputs": ["\u00e9", "b"]}),
]
MSGPACK_PIECES = [
    *(bytes([marker]) for marker in range(0xC0, 0xE0)),
    *(
        b"\x80",
        b"\x81",
        b"\x82",
        b"\x90",
        b"\x91",
        b"\x93",
        b"\x00",
        b"\xff",
        b"\xa6inputs",
        b"\xa5model\xa1a",
        b"\xa1x",
    ),
    *(
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\x00\x00\x00\x01",
        b"\xc6\x00\x00\x00\x08",
        b"\xd9\x03abc",
        b"\xd6\xff\x00\x00\x00\x00",
    ),
    *(b"\xca\x7f\xc0\x00\x00", b"\xcb\x7f\xf0" + bytes(6), b"\xcf" + b"\xff" * 8, b"\xd3\x80" + bytes(7), b"\x91" * 70),
]

Reference = Callable[[list[Tensor], bytes], Row | None]


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    codec = Codec()
    yield codec
    codec.close()


def mutate(rng: random.Random, body: bytes, pieces: list[bytes]) -> bytes:
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        at = rng.randint(0, len(body))
        until = min(len(body), at + rng.choice([0, 0, 1, 1, 2, 5]))
        choices = [b"", rng.choice(pieces), bytes([rng.randrange(256)]), body[at : at + rng.randint(1, 9)]]
        body = body[:at] + rng.choice(choices) + body[until:]
    return body


def agree(codec: Codec, encoding: str, inputs: list[Tensor], body: bytes, reference: Reference) -> bool:
    """Whether both accepted the body; neither may do so alone."""
    answer = codec.decode(encoding, inputs, body)
    expected = reference(inputs, body)
    if expected is None:
        assert isinstance(answer, Refused), (body, answer)
        assert answer.code in REFUSALS
        assert answer.detail
        return False
    assert isinstance(answer, Row), (body, answer)
    assert (answer.model, answer.version, answer.length) == (expected.model, expected.version, expected.length)
    for name, value in expected.values.items():
        got = answer.values[name]
        if value.dtype.hasobject:
            assert got.tolist() == value.tolist(), (body, got, value)
        else:
            assert got.tobytes() == value.tobytes() or np.array_equal(got, value, equal_nan=True), (body, got, value)
    return True


def mutations_accepted(
    codec: Codec, encoding: str, seed: int, bodies: list[tuple[list[Tensor], bytes]], pieces: list[bytes]
) -> int:
    rng = random.Random(seed)
    reference = reference_json if encoding == "json" else reference_msgpack
    accepted = 0
    for _ in range(MUTATIONS):
        inputs, body = rng.choice(bodies)
        if rng.random() < 0.1:
            inputs = rng.choice(SCHEMAS)
        accepted += agree(codec, encoding, inputs, mutate(rng, body, pieces), reference)
    return accepted


@pytest.mark.parametrize("seed", range(4))
def test_mutated_json(codec: Codec, seed: int) -> None:
    accepted = mutations_accepted(codec, "json", seed, JSON_BODIES, JSON_PIECES)
    assert accepted > MUTATIONS // 20  # not all of them are garbage


@pytest.mark.parametrize("seed", range(4))
def test_mutated_msgpack(codec: Codec, seed: int) -> None:
    bodies = [(inputs, msgpack.packb(value)) for inputs, value in MSGPACK_VALUES]
    bodies += [(inputs, msgpack.packb(value, use_single_float=True)) for inputs, value in MSGPACK_VALUES]
    assert mutations_accepted(codec, "msgpack", seed, bodies, MSGPACK_PIECES) > MUTATIONS // 20


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(SCHEMAS))
def test_any_bytes(codec: Codec, body: bytes, inputs: list[Tensor]) -> None:
    agree(codec, "json", inputs, body, reference_json)
    agree(codec, "msgpack", inputs, body, reference_msgpack)
    assert isinstance(codec.decode("raw", inputs, body), Row | Refused)


@pytest.mark.parametrize(("inputs", "body"), JSON_BODIES)
def test_every_prefix_of_a_json_body_is_refused(codec: Codec, inputs: list[Tensor], body: bytes) -> None:
    assert isinstance(codec.decode("json", inputs, body), Row)
    for length in range(len(body.rstrip())):
        assert isinstance(codec.decode("json", inputs, body[:length]), Refused)


@pytest.mark.parametrize(("inputs", "value"), MSGPACK_VALUES)
def test_every_prefix_of_a_msgpack_body_is_refused(codec: Codec, inputs: list[Tensor], value: object) -> None:
    body = msgpack.packb(value)
    assert isinstance(codec.decode("msgpack", inputs, body), Row)
    for length in range(len(body)):
        assert isinstance(codec.decode("msgpack", inputs, body[:length]), Refused)
