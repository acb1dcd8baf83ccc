"""The Python table of problems is the catalogue."""

import json
from pathlib import Path

import pytest

from penstock.core.problems import PROBLEMS, problem_of_status

CATALOGUE = json.loads((Path(__file__).resolve().parents[2] / "sdk/contract/problems.json").read_text())


def test_table_equals_the_catalogue() -> None:
    assert [(entry.code, entry.status, entry.title, entry.retryable) for entry in PROBLEMS.values()] == [
        (entry["code"], entry["status"], entry["title"], entry["retryable"]) for entry in CATALOGUE
    ]
    assert list(PROBLEMS) == [entry["code"] for entry in CATALOGUE]


@pytest.mark.parametrize("status", sorted({entry["status"] for entry in CATALOGUE}))
def test_every_status_of_the_catalogue_has_an_entry(status: int) -> None:
    assert problem_of_status(status).status == status


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "malformed_request"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (500, "internal_error"),
        (409, "conflict"),
        (418, "internal_error"),
    ],
)
def test_plain_statuses_have_the_plain_code(status: int, code: str) -> None:
    assert problem_of_status(status).code == code
