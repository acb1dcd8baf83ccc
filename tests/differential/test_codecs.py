"""Every codec against another implementation: orjson, the standard library's json with exact fractions, and msgpack."""

import json
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests.codecs import DTYPES, NUMBERS, Codec, Refused, Row, Tensor, reference_json, reference_msgpack

EXAMPLES = settings(max_examples=400, deadline=None)
NAMES = st.text(min_size=1, max_size=8)
SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    codec = Codec()
    yield codec
    codec.close()


LONGEST = 5  # of tensors that vary
LENGTHS = st.integers(1, LONGEST)
INNER_SHAPES = st_numpy.array_shapes(min_dims=0, max_dims=2, max_side=3)


@st.composite
def tensors(draw: st.DrawFn, vary: bool = False, dtypes: tuple[str, ...] = DTYPES) -> list[Tensor]:
    """Return the inputs or outputs of a model; if they may vary, the first one does."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    made = []
    for name in names:
        varies = vary and (not made or draw(st.booleans()))
        shape = (LONGEST, *draw(INNER_SHAPES)) if varies else draw(SHAPES)
        made.append(Tensor(name, draw(st.sampled_from(dtypes)), shape, varies))
    return made


# At most 64 tensors' elements of these fit the room for strings.
TEXTS = st.text(max_size=5).map(str.encode)


@st.composite
def rows(draw: st.DrawFn, vary: bool = False, dtypes: tuple[str, ...] = DTYPES) -> dict[Tensor, np.ndarray]:
    """Return values for each tensor, all of one length where they vary."""
    length = draw(LENGTHS)
    row = {}
    for tensor in draw(tensors(vary=vary, dtypes=dtypes)):
        dtype, elements = (object, TEXTS) if tensor.is_text else (tensor.dtype, None)
        row[tensor] = draw(st_numpy.arrays(dtype, tensor.shape_at(length), elements=elements, fill=elements))
    return row


def length_of(row: dict[Tensor, np.ndarray]) -> int:
    return next((len(value) for tensor, value in row.items() if tensor.varies), 0)


def at_longest(row: dict[Tensor, np.ndarray]) -> dict[Tensor, np.ndarray]:
    """Return the values with room for the longest: what lies behind a shorter one must not show."""
    return {
        tensor: np.concatenate([value, np.full((LONGEST - len(value), *value.shape[1:]), filler(tensor), value.dtype)])
        if tensor.varies
        else value
        for tensor, value in row.items()
    }


def filler(tensor: Tensor) -> Any:
    return b"other" if tensor.is_text else 1


MAY_VARY = st.booleans()


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal bit for bit, but for the bits of a NaN."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if left.dtype.kind != "f":
        return np.array_equal(left, right)
    both_nan = np.isnan(left) & np.isnan(right)
    return bool(np.all(both_nan | ((left == right) & (np.signbit(left) == np.signbit(right)))))


def assert_same(answer: Row | Refused, expected: Row) -> None:
    assert isinstance(answer, Row), answer
    assert (answer.model, answer.version, answer.length) == (expected.model, expected.version, expected.length)
    assert answer.values.keys() == expected.values.keys()
    for name, value in expected.values.items():
        assert same(answer.values[name], value), (name, answer.values[name], value)


def jsonable(array: np.ndarray | bytes) -> Any:
    """Nested lists; NaN and infinity as the strings that stand for them."""
    if isinstance(array, bytes):  # what an array of objects gives when it is iterated
        return array.decode()
    if array.ndim:
        return [jsonable(part) for part in array]
    value = array.item()
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, float) and not np.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    return value


def members(draw: st.DrawFn, values: Any, only: Tensor | None) -> dict[str, Any]:
    """A request's members in some order, the value of a single input sometimes without its name."""
    bare = only is not None and draw(st.booleans())
    body: dict[str, Any] = {"inputs": values[only.name] if bare and only else values}
    if draw(st.booleans()):
        body["model"] = draw(NAMES)
    if draw(st.booleans()):
        body["version"] = draw(NAMES)
    return {name: body[name] for name in draw(st.permutations(list(body)))}


@st.composite
def json_requests(draw: st.DrawFn) -> tuple[list[Tensor], Row, bytes]:
    row = draw(rows(vary=draw(MAY_VARY)))
    inputs = list(row)
    jsonables = {tensor.name: jsonable(row[tensor]) for tensor in inputs}
    body = members(draw, jsonables, inputs[0] if len(inputs) == 1 else None)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r")]))
    text = json.dumps(body, separators=separators, ensure_ascii=draw(st.booleans()))
    values = {tensor.name: row[tensor] for tensor in inputs}
    expected = Row(body.get("model", ""), body.get("version", ""), values, length_of(row))
    return inputs, expected, text.encode("utf-8", "surrogatepass")


@EXAMPLES
@given(json_requests())
def test_json_rows_arrive_exactly(codec: Codec, request_: tuple[list[Tensor], Row, bytes]) -> None:
    inputs, row, body = request_
    assert_same(codec.decode("json", inputs, body), row)


@EXAMPLES
@given(json_requests())
def test_names_in_the_query_settle_the_same_row(codec: Codec, request_: tuple[list[Tensor], Row, bytes]) -> None:
    inputs, row, body = request_
    names = (row.model or "m", row.version or "v")
    assert_same(codec.decode("json", inputs, body, *names), Row(*names, row.values, row.length))


DIGITS = st.text("0123456789", min_size=1, max_size=25)
NUMERALS = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from(["", "-"]),
    st.one_of(st.just("0"), DIGITS.map(lambda digits: digits.lstrip("0") or "0")),
    st.one_of(st.just(""), DIGITS.map(lambda digits: "." + digits)),
    st.one_of(st.just(""), st.integers(-330, 330).map(lambda power: f"e{power}"), st.just("E+5"), st.just("e-0")),
)


@settings(max_examples=1500, deadline=None)
@given(NUMERALS, st.sampled_from(NUMBERS[1:]))
@example("65519.9999999999999999999999", "float16")
@example("65520", "float16")
@example("2049.00000000000000000000000000001", "float16")
@example("16777217.000000000000000000001", "float32")
@example("9007199254740993.00000000000000000001", "float64")
@example("-0", "uint8")
@example("18446744073709551616", "uint64")
def test_every_number_is_rounded_correctly(codec: Codec, number: str, dtype: str) -> None:
    inputs = [Tensor("x", dtype, ())]
    body = b'{"inputs":' + number.encode() + b"}"
    expected = reference_json(inputs, body)
    answer = codec.decode("json", inputs, body)
    if expected is None:
        assert isinstance(answer, Refused)
        assert answer.code == "invalid_input"
        return
    assert_same(answer, expected)


def packable_of(tensor: Tensor, value: np.ndarray, compact: bool, as_str: bool) -> Any:
    """Return what msgpack packs: strings as str or bin, numbers as a bin of all or each on its own."""
    if tensor.is_text:
        return jsonable(value) if as_str else value.tolist()
    return value.tobytes() if compact else value.tolist()


@st.composite
def msgpack_requests(draw: st.DrawFn) -> tuple[list[Tensor], Row, bytes]:
    row = draw(rows(vary=draw(MAY_VARY)))
    inputs = list(row)
    compact = draw(st.booleans())
    # A float64 that is sent as a float32 is another number.
    single = draw(st.booleans()) and all(tensor.dtype != "float64" for tensor in inputs)
    as_str = draw(st.booleans())
    packable = {t.name: packable_of(t, row[t], compact, as_str) for t in inputs}
    body = members(draw, packable, inputs[0] if len(inputs) == 1 else None)
    values = {tensor.name: row[tensor] for tensor in inputs}
    expected = Row(body.get("model", ""), body.get("version", ""), values, length_of(row))
    return inputs, expected, msgpack.packb(body, use_single_float=single)


@EXAMPLES
@given(msgpack_requests())
def test_msgpack_rows_arrive_exactly(codec: Codec, request_: tuple[list[Tensor], Row, bytes]) -> None:
    inputs, row, body = request_
    assert_same(codec.decode("msgpack", inputs, body), row)


@EXAMPLES
@given(st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(), st.booleans(), st.none()), st.sampled_from(DTYPES))
@example(1e39, "float32")
@example(65520.0, "float16")
@example(2**64 - 1, "float32")
@example(-129, "int8")
def test_msgpack_scalars_convert_as_documented(codec: Codec, value: Any, dtype: str) -> None:
    inputs = [Tensor("x", dtype, ())]
    body = msgpack.packb({"inputs": value})
    expected = reference_msgpack(inputs, body)
    answer = codec.decode("msgpack", inputs, body)
    if expected is None:
        assert isinstance(answer, Refused)
        assert answer.code == "invalid_input"
        return
    assert_same(answer, expected)


@EXAMPLES
@given(MAY_VARY.flatmap(lambda vary: rows(vary=vary, dtypes=NUMBERS)))
def test_raw_is_the_tensors_bytes(codec: Codec, row: dict[Tensor, np.ndarray]) -> None:
    inputs = list(row)
    body = row[inputs[0]].tobytes()
    answer = codec.decode("raw", inputs, body, "m", "v")
    if len(inputs) != 1:
        assert isinstance(answer, Refused)
        assert answer.code == "invalid_input"
        return
    assert_same(answer, Row("m", "v", {inputs[0].name: row[inputs[0]]}, length_of(row)))
    if inputs[0].varies:
        longer = np.ones(inputs[0].shape_at(LONGEST + 1), inputs[0].dtype).tobytes()
        assert isinstance(codec.decode("raw", inputs, longer), Refused)
        assert isinstance(codec.decode("raw", inputs, b""), Refused)
        if inputs[0].bytes == LONGEST:  # a byte more is an element more
            return
    refused = codec.decode("raw", inputs, body + b"\0")
    assert isinstance(refused, Refused)
    assert f"got {len(body) + 1}" in refused.detail


def read_back(tensor: Tensor, got: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not tensor.is_text:
        return np.array(got, tensor.dtype).reshape(shape)
    read = np.array(got, object).reshape(shape)
    return np.frompyfunc(str.encode, 1, 1)(read) if read.ndim else np.array(read.item().encode(), object)


@EXAMPLES
@given(MAY_VARY.flatmap(lambda vary: rows(vary=vary)), NAMES, NAMES)
def test_json_replies_read_back_exactly(codec: Codec, row: dict[Tensor, np.ndarray], model: str, version: str) -> None:
    reply = orjson.loads(codec.encode("json", at_longest(row), model, version, length=length_of(row)))
    assert list(reply) == ["model", "version", "outputs"]
    assert (reply["model"], reply["version"]) == (model, version)
    assert list(reply["outputs"]) == [tensor.name for tensor in row]
    for tensor, value in row.items():
        got = reply["outputs"][tensor.name]
        assert same(read_back(tensor, got, np.shape(got) if tensor.elements else tensor.shape), value)
        if value.dtype.kind == "f" and value.ndim == 0 and np.isfinite(value):
            assert type(got) is float


@EXAMPLES
@given(MAY_VARY.flatmap(lambda vary: rows(vary=vary)), NAMES, NAMES)
def test_msgpack_replies_read_back_exactly(
    codec: Codec, row: dict[Tensor, np.ndarray], model: str, version: str
) -> None:
    body = codec.encode("msgpack", at_longest(row), model, version, length=length_of(row))
    reply = msgpack.unpackb(body)
    assert (reply["model"], reply["version"]) == (model, version)
    assert list(reply["outputs"]) == [tensor.name for tensor in row]
    for tensor, value in row.items():
        assert same(read_back(tensor, reply["outputs"][tensor.name], value.shape), value)
        assert not tensor.varies or len(reply["outputs"][tensor.name]) == len(value)
    if all(tensor.dtype not in ("float16", "float32") for tensor in row):
        assert body == msgpack.packb(reply)  # every integer and every head in its shortest form


@EXAMPLES
@given(MAY_VARY.flatmap(lambda vary: rows(vary=vary, dtypes=NUMBERS)))
def test_raw_replies_are_the_named_output(codec: Codec, row: dict[Tensor, np.ndarray]) -> None:
    for index, value in enumerate(row.values()):
        assert codec.encode("raw", at_longest(row), "m", "1", index, length=length_of(row)) == value.tobytes()


@st.composite
def uneven_requests(draw: st.DrawFn) -> tuple[list[Tensor], dict[str, list[int]]]:
    """Draw inputs of which some vary, and values that may be too short, too long, or of other lengths."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    lengths = st.integers(0, LONGEST + 1)
    inputs = [Tensor(name, "int16", (LONGEST,), draw(st.booleans())) for name in names]
    return inputs, {name: [7] * draw(lengths) for name in names}


@EXAMPLES
@given(uneven_requests())
def test_only_rows_of_one_length_are_taken(codec: Codec, request_: tuple[list[Tensor], dict[str, list[int]]]) -> None:
    inputs, values = request_
    for encoding, body, reference in (
        ("json", orjson.dumps({"inputs": values}), reference_json),
        ("msgpack", msgpack.packb({"inputs": values}), reference_msgpack),
        (
            "msgpack",
            msgpack.packb({"inputs": {name: np.int16(value).tobytes() for name, value in values.items()}}),
            reference_msgpack,
        ),
    ):
        answer = codec.decode(encoding, inputs, body)
        expected = reference(inputs, body)
        if expected is not None:
            assert_same(answer, expected)
            continue
        assert isinstance(answer, Refused)
        assert answer.code == "invalid_input"
        assert "expected" in answer.detail
