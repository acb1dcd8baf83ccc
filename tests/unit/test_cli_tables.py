"""Answers as text: aligned, and one line for each thing whatever it holds."""

import pytest

from penstock.cli.tables import facts, size, table


def test_columns_are_aligned() -> None:
    rows = [("digits", None, True), ("a", ["x", "y"], False), ("b", [], 7)]
    assert table(("NAME", "ALIASES", "LATEST"), rows).splitlines() == [
        "NAME    ALIASES  LATEST",
        "digits  -        yes",
        "a       x, y     no",
        "b       -        7",
    ]


def test_table_of_nothing_has_its_columns() -> None:
    assert table(("NAME", "ROLE"), []) == "NAME  ROLE"


def test_facts_leave_out_what_is_nothing() -> None:
    known = {"model": "digits", "tags": [], "card": "", "memory": None, "latest": False, "metrics": {"accuracy": 0.5}}
    assert facts(known) == "model    digits\nlatest   no\nmetrics  accuracy 0.5"


def test_text_of_several_lines_is_one() -> None:
    assert facts({"description": "one\ntwo\t three"}) == "description  one two three"
    assert facts({}) == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536 << 20, "1.5 GiB"), (1 << 50, "1024.0 TiB"), (None, None)],
)
def test_sizes(count: int | None, text: str | None) -> None:
    assert size(count) == text
