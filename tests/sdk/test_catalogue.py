"""The SDK's exceptions are the catalogue's, and are what they seem."""

import json
import pickle
from pathlib import Path

import pytest

import penstock_client
from penstock_client import PenstockError, RefusedError, TransportError, problems
from penstock_client.core import refusal
from penstock_client.messages import Reply
from tests.sdk import problem_classes

CATALOGUE = json.loads((Path(__file__).resolve().parents[2] / "sdk/contract/problems.json").read_text())


def test_the_classes_are_those_of_the_catalogue() -> None:
    assert problem_classes.FILE.read_text() == problem_classes.as_python(), "run `make sdk-types`"
    assert {kind.code: (kind.status, kind.title, kind.retryable) for kind in problems.CLASSES.values()} == {
        entry["code"]: (entry["status"], entry["title"], entry["retryable"]) for entry in CATALOGUE
    }


def answered(status: int, document: object, fields: str = "") -> Reply:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\n{fields}"
    return Reply(status, head.encode(), bytearray(json.dumps(document).encode()))


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry["code"])
def test_a_problem_is_raised_as_its_class(entry: dict[str, object]) -> None:
    document = {"code": entry["code"], "detail": "so it is", "request_id": "r1", "status": entry["status"]}
    error = refusal(answered(int(str(entry["status"])), document, "Retry-After: 3\r\n"), "ours", 2)
    assert type(error) is problems.CLASSES[str(entry["code"])]
    assert isinstance(error, RefusedError)
    assert (error.detail, error.request_id, error.attempts, error.retry_after_s) == ("so it is", "r1", 2, 3.0)
    assert not (error.retryable and error.may_have_run)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.retry_after_s) == (type(error), str(error), 3.0)


@pytest.mark.parametrize("status", [418, 599])
def test_a_code_of_another_version_is_no_reason_to_send_again(status: int) -> None:
    error = refusal(answered(status, {"code": "brand_new", "detail": "d", "title": "T"}), "ours", 1)
    assert isinstance(error, RefusedError)
    assert (error.code, error.status, error.title, error.retryable) == ("brand_new", status, "T", False)
    assert error.may_have_run == (status == 599)
    assert error.request_id == "ours"


@pytest.mark.parametrize("document", [[], "x", {}, {"detail": None}, {"code": 7}])
def test_what_is_hardly_a_problem(document: object) -> None:
    error = refusal(answered(503, document), "ours", 1)
    assert isinstance(error, RefusedError)
    assert not error.retryable
    assert error.request_id == "ours"


def test_the_roots() -> None:
    for name in penstock_client.__all__:
        public = getattr(penstock_client, name)
        if isinstance(public, type) and issubclass(public, BaseException):
            assert issubclass(public, PenstockError)
            assert name in str(penstock_client.errors.__doc__)
    assert issubclass(problems.DeadlineExceededError, TimeoutError)
    assert issubclass(problems.DeadlineUnreachableError, TimeoutError)
    assert issubclass(penstock_client.TimedOutError, (TimeoutError, TransportError))
    assert pickle.loads(pickle.dumps(TransportError("x", may_have_run=True))).may_have_run
