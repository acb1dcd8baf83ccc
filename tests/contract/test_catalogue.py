"""The error catalogue reads the same in C++, in sdk/contract/problems.json and in docs/errors.md."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = json.loads((ROOT / "sdk/contract/problems.json").read_text())


def test_entries_are_complete_and_unique() -> None:
    for entry in CATALOGUE:
        assert list(entry) == ["code", "status", "title", "retryable", "description"]
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", entry["code"])
        assert 400 <= entry["status"] <= 599
        assert isinstance(entry["retryable"], bool)
        assert entry["title"] and entry["description"].endswith(".")
    codes = [entry["code"] for entry in CATALOGUE]
    assert len(set(codes)) == len(codes)


def test_table_in_cpp_equals_the_catalogue() -> None:
    source = (ROOT / "server/dataplane/http/problem.cpp").read_text()
    rows = re.findall(r'\{"(\w+)", (\d+), "([^"]*)", (true|false)\}', source)
    assert rows[0][0] == "none"
    assert [(code, int(status), title, flag == "true") for code, status, title, flag in rows[1:]] == [
        (entry["code"], entry["status"], entry["title"], entry["retryable"]) for entry in CATALOGUE
    ]


def test_enum_in_cpp_follows_the_catalogue() -> None:
    header = (ROOT / "server/dataplane/http/problem.hpp").read_text()
    body = header.split("enum class ProblemCode", 1)[1].split("};", 1)[0]
    names = re.findall(r"^\s*k\w+(?: = 0)?,", body, re.MULTILINE)
    comments = re.findall(r"^\s*k\w+,\s*// (\d+) (\w+)", body, re.MULTILINE)
    assert names[0].strip() == "kNone = 0,"
    assert len(names) == len(comments) + 1
    assert [(int(status), code) for status, code in comments] == [
        (entry["status"], entry["code"]) for entry in CATALOGUE
    ]


def test_documented_table_equals_the_catalogue() -> None:
    document = (ROOT / "docs/errors.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.*?) \| (yes|no) \| (.*) \|$", document, re.MULTILINE)
    assert [(code, int(status), title, retry == "yes", when) for code, status, title, retry, when in rows] == [
        (entry["code"], entry["status"], entry["title"], entry["retryable"], entry["description"])
        for entry in CATALOGUE
    ]
