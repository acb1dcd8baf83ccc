"""Bodies and queries as typed values: what is taken, and which member an error names."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.reading import Members, parse_json
from penstock.core.errors import RequestError
from penstock.registry.records import Role

READERS: dict[str, Callable[[Members], Any]] = {
    "text": lambda members: members.text("m"),
    "name": lambda members: members.name("m"),
    "flag": lambda members: members.flag("m", default=False),
    "whole": lambda members: members.whole("m", 1, 0, 10),
    "number": lambda members: members.number("m", 0.5, 0, 1),
    "role": lambda members: members.one_of("m", Role),
    "texts": lambda members: members.texts("m"),
    "text_table": lambda members: members.text_table("m"),
    "number_table": lambda members: members.number_table("m"),
    "table": lambda members: members.table("m"),
    "members": lambda members: members.members("m"),
    "time": lambda members: members.time("m"),
}
# Each with values that fit it; every other value must be refused.
FITTING: dict[str, list[object]] = {
    "text": ["a", "ä b", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "admin", "a/b"],
    "name": ["a", "admin"],
    "flag": [True, None],
    "whole": [0, 7, None],
    "number": [0, 0.25, None],
    "role": ["admin"],
    "texts": [["a", "b"], [], None],
    "text_table": [{"a": "b"}, {}, None],
    "number_table": [{"a": 1, "b": 0.5}, {}, None],
    "table": [{"a": "b"}, {"a": 1, "b": 0.5}, {"a": []}, {}, None],
    "members": [{"a": "b"}, {"a": 1, "b": 0.5}, {"a": []}, {}, None],
    "time": ["2026-01-31T12:00:00Z", None],
}
VALUES: list[object] = [
    *("a", "ä b", "", "a/b", "admin", "2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "a\0b"),
    *(0, 7, 11, -1, 0.25, 1.5, True, None, [], ["a", "b"], ["a", 1], {}, {"a": "b"}, {"a": 1, "b": 0.5}, {"a": []}),
]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_only_what_fits_is_taken(reader: str, value: object) -> None:
    members = Members({"m": value}, "where.")
    # By type too: 0 equals False.
    fits = any(value == fitting and type(value) is type(fitting) for fitting in FITTING[reader])
    if fits:
        READERS[reader](members)
        members.done()
    else:
        with pytest.raises(RequestError, match=r"^where\.m: expected .*, got ") as refused:
            READERS[reader](members)
        assert refused.value.code == "invalid_input"


def test_unknown_member_is_named_with_the_nearest_known() -> None:
    members = Members({"version": "1", "resaon": "x"})
    members.name("version")
    members.text("reason", "")
    with pytest.raises(RequestError, match=r"resaon: no such member; did you mean 'reason'\?"):
        members.done()


def test_inner_members_are_named_with_their_place() -> None:
    mirror = Members({"mirror": {"share": 2}}).members("mirror")
    assert mirror is not None
    with pytest.raises(RequestError, match=r"mirror\.share: expected a number from 0 to 1, got 2"):
        mirror.number("share", 0.1, 0, 1)


def test_values_of_a_query_are_text_or_json() -> None:
    members = Members({"name": "7", "limit": "7", "metrics": '{"accuracy": 0.5}', "ready": "true"}, text=True)
    assert members.name("name") == "7"
    assert members.whole("limit", 1, 0, 10) == 7
    assert members.number_table("metrics") == {"accuracy": 0.5}
    assert members.flag("ready", default=False) is True
    with pytest.raises(RequestError, match="limit: not valid JSON"):
        Members({"limit": "seven"}, text=True).whole("limit", 1, 0, 10)


def test_time_becomes_utc() -> None:
    assert Members({"at": "2026-01-31T13:00:00+01:00"}).time("at") == datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "at byte 1"),
        ('{"ä": }'.encode(), "at byte 7"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json(content: bytes, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as refused:
        parse_json(content)
    assert refused.value.code == "malformed_body"


@given(st.binary(max_size=64))
def test_any_bytes_are_json_or_refused(content: bytes) -> None:
    with suppress(RequestError):
        parse_json(content)
