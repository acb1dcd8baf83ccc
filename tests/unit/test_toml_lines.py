"""Lines of a TOML file's keys, checked against the text itself."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.toml_lines import KeyPath, lines_of

DOCUMENT = '''\
# a comment, then a key of no table
title = "x"

[server]
port = 9000 # the port
origins = [
  "a = 1",
  # [models]
  "b",
]
text = """
[models.c]
path = 1
"""
after = """ends here"""

  [models.digits]
  path = 'digits.onnx'
  "max batch" = 8

[models]
inline = { path = "x", deep = { y = 1 } }
dotted.path = "z"

[[entries]]
name = "a"
[entries.more]
x = 1
[[entries]]
name = "b"
[[entries.parts]]
x = 1
[[entries.parts]]
x = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("server",), 4),
        (("server", "port"), 5),
        (("server", "origins"), 6),
        (("server", "text"), 11),
        (("server", "after"), 15),
        (("models", "digits"), 17),
        (("models", "digits", "path"), 18),
        (("models", "digits", "max batch"), 19),
        (("models", "inline"), 22),
        (("models", "inline", "path"), 22),
        (("models", "inline", "deep", "y"), 22),
        (("models", "dotted", "path"), 23),
        (("entries", 0), 25),
        (("entries", 0, "name"), 26),
        (("entries", 0, "more", "x"), 28),
        (("entries", 1), 29),
        (("entries", 1, "name"), 30),
        (("entries", 1, "parts", 0, "x"), 32),
        (("entries", 1, "parts", 1, "x"), 34),
    ],
)
def test_every_key_has_its_line(path: KeyPath, line: int) -> None:
    tomllib.loads(DOCUMENT)
    assert lines_of(DOCUMENT)[path] == line


def test_what_looks_like_a_key_inside_a_value_is_none() -> None:
    assert ("models", "c") not in lines_of(DOCUMENT)


KEYS = st.lists(st.sampled_from(["port", "host", "a-b", '"quoted key"']), unique=True, min_size=1)
VALUES = st.sampled_from(["1", '"[x]"', "[1,\n 2]", '"""\nhost = 1\n"""', "{ x = 1 }", "'''\n\n'''", "2026-01-01"])


@given(st.lists(st.tuples(KEYS, VALUES, st.integers(0, 2)), min_size=1, max_size=5))
def test_a_key_is_on_the_line_that_is_said(tables: list[tuple[list[str], str, int]]) -> None:
    text = "".join(
        f"[t{number}]\n" + "".join(f"{key} = {value}\n" + "\n" * gap for key in keys)
        for number, (keys, value, gap) in enumerate(tables)
    )
    lines, found = text.splitlines(), lines_of(text)
    for table, content in tomllib.loads(text).items():
        assert lines[found[table,] - 1] == f"[{table}]"
        for key in content:
            assert lines[found[table, key] - 1].partition(" =")[0].strip('"') == key
