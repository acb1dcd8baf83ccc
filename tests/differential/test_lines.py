"""Lines to rows and replies to lines, against Python's json and csv; how a stream is cut changes nothing."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.streams.lines import CsvRows, CsvWriter, JsonRows, JsonWriter, LineReader
from penstock.core.errors import RequestError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CUTS = st.lists(st.integers(0, 400), max_size=12)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=12)


def rows_of(make: Callable[[], LineReader], text: bytes, cuts: list[int], rows_max: int = 3) -> Iterator[Any]:
    """Read a stream that comes in pieces; each row as Python has it, ... for one that is none."""
    reader, waiting = make(), b""
    pieces = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    for start, end in [*pairwise(pieces), (len(text), len(text))]:
        waiting += text[start:end]
        last = start == len(text)
        while True:
            rows, consumed = reader.read(waiting, last=last, rows_max=rows_max)
            waiting = waiting[consumed:]
            values = json.loads(b"[" + rows.text + b"]")
            assert len(values) == len(rows)
            faults = {fault[0] for fault in rows.faults}
            yield from (... if row in faults else value for row, value in enumerate(values))
            starts = [0, *(stop + 1 for stop in rows.ends)]
            assert [json.loads(rows.text[a:b]) for a, b in zip(starts, rows.ends, strict=False)] == values
            if not consumed:
                break
    assert waiting == b""


@given(st.lists(VALUES.filter(lambda value: not (isinstance(value, dict) and "inputs" in value))), CUTS, st.booleans())
def test_lines_are_what_json_reads(values: list[Any], cuts: list[int], ascii_only: bool) -> None:
    text = "".join(json.dumps(value, ensure_ascii=ascii_only) + "\n" for value in values).encode()
    assert list(rows_of(JsonRows, text, cuts)) == values
    wrapped = "".join(json.dumps({"inputs": value}) + "\r\n" for value in values).encode()
    assert list(rows_of(JsonRows, wrapped, cuts)) == values


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=8), CUTS)
def test_no_line_speaks_for_another(lines: list[bytes], cuts: list[int]) -> None:
    # Between each two a line that is known: it is found where it belongs, whatever stands around it.
    body = b"".join(line + b"\n[%d]\n" % index for index, line in enumerate(lines))
    reader, waiting, seen = JsonRows(), body, 0
    while waiting:
        rows, consumed = reader.read(waiting, last=True, rows_max=2)
        waiting = waiting[consumed:]
        starts = [0, *(end + 1 for end in rows.ends)]
        for start, end in zip(starts, rows.ends, strict=False):
            if rows.text[start:end] == b"[%d]" % seen:
                seen += 1
    assert seen == len(lines)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), CUTS)
def test_records_are_what_csv_reads(records: list[tuple[str, str]], cuts: list[int]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("a", "b"), *records])
    read = rows_of(lambda: CsvRows([("a", "bytes", ()), ("b", "bytes", ())]), text.getvalue().encode(), cuts)
    assert list(read) == [{"a": first, "b": second} for first, second in records]


@given(st.lists(st.floats(width=32), min_size=6, max_size=6), CUTS)
def test_numbers_keep_their_places(numbers: list[float], cuts: list[int]) -> None:
    text = ("c0,c1,c2,c3,c4,c5\n" + ",".join(map(repr, numbers)) + "\n").encode()
    (row,) = rows_of(lambda: CsvRows([("x", "float32", (2, 3))]), text, cuts)
    assert [len(inner) for inner in row] == [3, 3]
    for number, value in zip(numbers, [*row[0], *row[1]], strict=True):
        assert float(value) == number or (number != number and value == "NaN")


def test_bools_may_be_spelt_as_numbers_and_numbers_may_not_be_spelt_as_bools() -> None:
    text = b"flag,number\n1,1\n0,0\nTrue,1\n FALSE ,0\n 1 ,1\n2,true\n1.0,1\n"
    found = list(rows_of(lambda: CsvRows([("flag", "bool", ()), ("number", "int64", ())]), text, []))
    assert found == [
        {"flag": flag, "number": number}
        for flag, number in [(True, 1), (False, 0), (True, 1), (False, 0), (True, 1), (2, True), (1.0, 1)]
    ]
    assert [type(row["flag"]) for row in found] == [bool] * 5 + [int, float]
    assert list(rows_of(lambda: CsvRows([("x", "bool", (2,))]), b"a,b\n1,false\n", [])) == [[True, False]]


def test_a_length_that_varies_is_that_of_the_header() -> None:
    assert list(rows_of(lambda: CsvRows([("x", "int64", (None,))]), b"a,b,c\n1,2,3\n", [])) == [[1, 2, 3]]


def test_an_input_of_one_element_is_a_column() -> None:
    assert list(rows_of(lambda: CsvRows([("x", "int64", ())]), b"a\n1\n2\n", [])) == [1, 2]
    assert list(rows_of(lambda: CsvRows([("x", "bytes", ())]), b'x\n""\na\n', [])) == [{"x": ""}, {"x": "a"}]


@pytest.mark.parametrize("header", [b"a,b\n", b"a,x.0\n", b"a,x.1,x.0\n", b"a,x.0,x.1,a\n", b"x.0,x.1\n"])
def test_a_header_that_does_not_fit_is_refused(header: bytes) -> None:
    with pytest.raises(RequestError, match="header"):
        CsvRows([("a", "int64", ()), ("x", "float32", (2,))]).read(header, last=False, rows_max=5)


REPLY = st.lists(
    st.one_of(
        st.none(), st.fixed_dictionaries({"label": TEXT, "scores": st.lists(st.integers(), min_size=2, max_size=2)})
    )
)


@given(REPLY, st.integers(0, 2**40), st.randoms())
def test_replies_become_lines(outputs: list[Any], first: int, random: Any) -> None:
    errors = [
        {"row": row, "code": "invalid_input", "status": 422, "detail": f'"{row}",\n\\ \u20ac'}
        for row, output in enumerate(outputs)
        if output is None
    ]
    reply = json.dumps({"model": "m", "version": "1", "outputs": outputs, "errors": errors}).encode()
    faults = [(row, "malformed_body", 400, "none") for row in range(len(outputs)) if random.random() < 0.2]
    expected: list[Any] = [{"outputs": output} for output in outputs]
    for error in errors:
        expected[error["row"]] = {"error": {**error, "row": first + error["row"]}}
    for row, code, status, detail in faults:
        expected[row] = {"error": {"row": first + row, "code": code, "status": status, "detail": detail}}
    lines = JsonWriter().write(reply, len(outputs), first, faults)
    assert [json.loads(line) for line in lines.split(b"\n")[:-1]] == expected
    writer = CsvWriter([("label", "bytes", ()), ("scores", "int64", (2,))])
    table = writer.head() + writer.write(reply, len(outputs), first, faults)
    for record, line in zip(csv.DictReader(io.StringIO(table.decode(), newline="")), expected, strict=True):
        if "outputs" in line:
            scores = line["outputs"]["scores"]
            assert record == {
                "label": line["outputs"]["label"],
                "scores.0": str(scores[0]),
                "scores.1": str(scores[1]),
                "error": "",
            }
        else:
            error = line["error"]
            assert record["error"] == f"row {error['row']}: {error['code']}: {error['detail']}"


@pytest.mark.parametrize(
    "reply", [b"", b"{}", b'{"outputs":[null]', b'{"outputs":[1,2]}', b'{"outputs":[1],"errors":3}']
)
def test_what_is_no_reply_is_an_error(reply: bytes) -> None:
    with pytest.raises(ValueError, match="not the reply"):
        JsonWriter().write(reply, 1, 0, [])
