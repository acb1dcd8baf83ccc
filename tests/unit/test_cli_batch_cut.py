"""What `penstock batch` takes out of lines: fields as the server reads them, members as Python does."""

import csv
import io
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.cli.batch.choice import Choice, Places
from penstock.cli.batch.csv_cut import CsvCutter, columns_of_header
from penstock.cli.batch.json_cut import JsonCutter
from penstock.native import _dataplane

NO_OBJECT = 'the row is no object that has id to keep: write it as {NAME: VALUE, "inputs": ROW}'


def read(text: bytes, width: int) -> list[list[str] | str]:
    """Return the records that the server reads, or why one is none."""
    prefixes = ["[", *[","] * (width - 1)]
    rows, _, _, faults = _dataplane.csv_rows(text, True, 1000, prefixes, "]", ["text"] * width, ["kept"] * width)
    why = dict(faults)
    return [why.get(number, row) for number, row in enumerate(json.loads(b"[" + rows + b"]", strict=False))]


@given(st.text('ab",\n\r ', max_size=40), st.integers(2, 4), st.data())
@example('a,"b\n', 2, None)
@example('a,"b""', 2, None)
@example('"a"b,c\r\n\r\n,\r\n', 2, None)
@example(',"\r', 2, None)
@example(",\r,", 3, None)
@example('x,y"z\n"u",v\n', 2, None)
def test_fields_are_those_that_the_server_reads(text: str, width: int, data: st.DataObject | None) -> None:
    carried = [width - 1] if data is None else data.draw(st.lists(st.integers(0, width - 1), min_size=1, unique=True))
    if len(carried) == width:
        carried.pop()
    sent = [place for place in range(width) if place not in carried]
    names = [f"c{place}" for place in range(width)]
    header = ",".join(names).encode() + b"\n"
    cut = CsvCutter(header, Places(tuple(names), tuple(sent), tuple(carried)), texts=True).cut(header + text.encode())
    whole = read(text.encode(), width)
    head, _, rows = cut.payload.partition(b"\n")
    assert head.decode().rstrip("\r").split(",") == [names[place] for place in sent]
    left = read(rows, len(sent))
    assert cut.carried is not None
    members = [json.loads(b"{" + each[:-1] + b"}") for each in cut.carried.members()]
    assert len(whole) == len(left) == len(members)
    for number, row in enumerate(whole):
        if isinstance(row, str):
            assert cut.faults[number].detail == row
            assert isinstance(left[number], str)
            continue
        assert left[number] == [row[place] for place in sent]
        assert list(members[number].values()) == [row[place] for place in carried]
        # What was well-formed in the file is so in the output, too.
        if '"' not in text and "\r" not in text:
            assert next(csv.reader(io.StringIO(cut.carried.fields()[number].decode())))[:-1] == [
                row[place] for place in carried
            ]


def test_a_header_has_a_mark_and_blanks() -> None:
    assert columns_of_header(b'\xef\xbb\xbfid, age ,"a,b"\r\n', "rows.csv") == ["id", "age", "a,b"]


NAMES = st.sampled_from(["id", "n", "t", "inputs", 'a"b', "ä"])
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text('a"{}[]:,\\\n\ud800id'),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)


@given(st.lists(st.tuples(st.dictionaries(NAMES, VALUES, max_size=5), st.booleans()), max_size=4))
def test_members_are_those_that_python_reads(rows: list[tuple[dict[str, object], bool]]) -> None:
    text = "\n".join(
        json.dumps(row, ensure_ascii=True, separators=(",", ":") if tight else (", ", ": ")) for row, tight in rows
    )
    cut = JsonCutter(Choice(("id", 'a"b', "n"), ("t",)), frozenset({"n"})).cut(text.encode())
    assert cut.carried is not None
    assert not cut.faults
    left = [json.loads(line) for line in cut.payload.splitlines()]
    members = [json.loads(b"{" + each[:-1] + b"}") for each in cut.carried.members()]
    assert len(left) == len(members) == len(rows)
    for (row, _), sent, carried in zip(rows, left, members, strict=True):
        assert (sent, carried) == expected(row)


def expected(row: dict[str, object]) -> tuple[dict[str, object], dict[str, object]]:
    sent = {name: value for name, value in row.items() if name not in ("id", 'a"b', "t")}
    carried: dict[str, object] = {name: row[name] for name in ("id", 'a"b', "n") if name in row}
    inner = row.get("inputs")
    if isinstance(inner, dict):
        sent["inputs"], inside = expected(inner)
        carried = {**inside, **carried}
    return sent, {name: carried[name] for name in ("id", 'a"b', "n") if name in carried}


@pytest.mark.parametrize(
    ("line", "sent", "member", "field"),
    [
        (
            r'{"id":12345678901234567890123,"a":1}',
            '{"a":1}',
            '"id":12345678901234567890123,',
            "12345678901234567890123,",
        ),
        (r'{"a":1,"id":1.10e5}', '{"a":1}', '"id":1.10e5,', "1.10e5,"),
        (r'{"id":"007"}', "{}", '"id":"007",', "007,"),
        (r'{"id":"a,\"b\"","a":2}', '{"a":2}', r'"id":"a,\"b\"",', '"a,""b""",'),
        (r'{"id":"\ud800"}', "{}", r'"id":"\ud800",', r'"""\ud800""",'),
        (r'{"\u0069d":[1, 2]}', "{}", '"id":[1, 2],', '"[1, 2]",'),
        (r'{"id":1,"id":2}', "{}", '"id":2,', "2,"),
        (r'{"id":null}', "{}", '"id":null,', ","),
        (r'{"a":"\"id\":5,"}', r'{"a":"\"id\":5,"}', "", ","),
        (r'{"a":{"id":5}}', r'{"a":{"id":5}}', "", ","),
        (r'{"a":["id",5]}', r'{"a":["id",5]}', "", ","),
        (r'{"id": 7, "inputs": [1, 2]}', '{ "inputs": [1, 2]}', '"id":7,', "7,"),
        (r'{"id":007,"a":1}', r'{"id":007,"a":1}', "", ","),
        (r'{"id":NaN,"a":1}', r'{"id":NaN,"a":1}', "", ","),
        (r'{"id":1,"a":2},', r'{"a":2},', '"id":1,', "1,"),
        (r'{"id":1,}', r'{"id":1,}', "", ","),
        (r'{,"id":1}', r'{,"id":1}', "", ","),
        (r'{"a":2,"id":1,}', r'{"a":2,"id":1,}', "", ","),
        (r'{ "a" : 2 , "id" : 1 }', r'{"a" : 2}', '"id":1,', "1,"),
        (r'{ "a" : 2, "id" : 1 , "b": 3}', r'{ "a" : 2, "b": 3}', '"id":1,', "1,"),
        ('{"a": 2, "id": 1}', '{"a": 2}', '"id":1,', "1,"),
        ('{"a": 2, "id": 1, "b": 3}', '{"a": 2, "b": 3}', '"id":1,', "1,"),
        ("{{", "{{", "", ","),
        ('{"id":[],"a":' + "[" * 100_000, '{"id":[],"a":' + "[" * 100_000, "", ","),
        ('{"id":1,"a":' + "7" * 10_000 + "}", '{"a":' + "7" * 10_000 + "}", '"id":1,', "1,"),
    ],
)
def test_values_are_carried_as_they_are(line: str, sent: str, member: str, field: str) -> None:
    cut = JsonCutter(Choice(("id",), ()), frozenset()).cut(line.encode() + b"\r\n\n")
    assert cut.carried is not None
    assert cut.payload.decode().replace("\r", "") == sent + "\n"
    assert cut.carried.members() == [member.encode()]
    assert cut.carried.fields() == [field.encode()]


def test_rows_that_are_no_objects() -> None:
    cut = JsonCutter(Choice(("id",), ()), frozenset()).cut(b'[1,2]\n7\n"a"\n')
    assert cut.payload == b"{\n" * 3
    assert [fault.detail for fault in cut.faults.values()] == [NO_OBJECT] * 3
    dropped = JsonCutter(Choice((), ("id",)), frozenset()).cut(b"[1,2]\n")
    assert (dropped.payload, dropped.faults, dropped.carried) == (b"[1,2]\n", {}, None)
