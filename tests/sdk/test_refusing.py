"""What cannot be sent, or cannot be an answer, is an error of the package's own, and never another number."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from penstock_client import ArgumentError, ProtocolError
from penstock_client.core import refusal
from penstock_client.messages import Reply
from penstock_client.schema import ModelSchema, TensorSpec
from penstock_client.tensors import BinaryBody, as_rows, read_outputs
from tests.sdk.asking import Ask

ROW = [1.0, 2.0, 3.0, 4.0]
FLOATS = ModelSchema("m", (TensorSpec("x", "float32", (None,)),), ())
TEXTS = ModelSchema("m", (TensorSpec("x", "str", (None,)),), ())


def ragged() -> Any:
    made = np.empty(2, object)
    made[0], made[1] = [1, 2], [3]
    return made


@pytest.mark.parametrize(
    "given", [np.ma.masked_array([1.0, 999.0], mask=[0, 1]), ragged(), np.zeros(2, [("a", "f4")])], ids=str
)
def test_arrays_that_are_no_tensor(given: Any) -> None:
    with pytest.raises(ArgumentError, match=r"inputs\.x"):
        as_rows(given, FLOATS, one=True)


def test_a_masked_array_without_a_masked_element() -> None:
    assert as_rows(np.ma.masked_array([1.0, 2.0]), FLOATS, one=True)["x"].tolist() == [[1.0, 2.0]]


def test_strings_with_half_a_pair() -> None:
    with pytest.raises(ArgumentError, match="surrogate"):
        BinaryBody(as_rows(np.array(["a\ud800"]), TEXTS, one=True), row_errors=False)


def test_strings_may_hold_anything_else() -> None:
    body = BinaryBody(as_rows(np.array(["a\0b", ""]), TEXTS, one=True), row_errors=False)
    assert b"".join(body) == b"\x03\0\0\0a\0b\0\0\0\0"


@pytest.mark.parametrize("value", [2**70, "\ud800", -(2**70)], ids=["large", "surrogate", "small"])
def test_what_msgpack_has_no_form_for(ask: Ask, value: object) -> None:
    with pytest.raises(ArgumentError):
        ask("predict", "affine", value, encoding="msgpack")


def test_a_list_within_itself(ask: Ask) -> None:
    endless: list[Any] = []
    endless.append(endless)
    for encoding in ("json", "msgpack"):
        with pytest.raises(ArgumentError):
            ask("predict", "affine", endless, encoding=encoding)


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800"], ids=ascii)
def test_names_that_are_no_part_of_a_path(ask: Ask, name: str) -> None:
    for inputs in (ROW, np.array(ROW)):
        with pytest.raises(ArgumentError):
            ask("predict", name, inputs)
        with pytest.raises(ArgumentError):
            ask("predict", "affine", inputs, version=name)
    for call in ("models.show", "models.remove", "keys.revoke"):
        with pytest.raises(ArgumentError):
            ask(call, name)
    with pytest.raises(ArgumentError):
        ask("predict_lines", name, b"1\n")


def test_a_key_of_nothing(ask: Ask) -> None:
    with pytest.raises(ArgumentError, match="key"):
        ask("live", client={"key": ""})


def answer(datatype: str, shape: list[int], data: bytes, size: int | None = None) -> Reply:
    told = {"name": "y", "datatype": datatype, "shape": shape}
    said = {"outputs": [{**told, "parameters": {"binary_data_size": len(data) if size is None else size}}]}
    head = json.dumps(said).encode()
    return Reply(200, b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d" % len(head), bytearray(head + data))


@pytest.mark.parametrize(
    "reply",
    [
        answer("FP32", [4], b""),
        answer("FP32", [2], bytes(9)),
        answer("FP32", [-1], bytes(8)),
        answer("FP32", [2], bytes(8), -8),
        answer("FP32", [4], bytes(8), 16),
        answer("BYTES", [3], struct.pack("<I", 1) + b"a"),
        answer("BYTES", [1], struct.pack("<I", 9) + b"a"),
        answer("BYTES", [1_000_000_000_000], b""),
    ],
)
def test_tensors_that_are_none(reply: Reply) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_outputs(reply)


@pytest.mark.parametrize("kind", ["application/json", "application/problem+json"])
def test_a_refusal_without_a_bottom(kind: str) -> None:
    error = refusal(Reply(500, f"HTTP/1.1 500 X\r\nContent-Type: {kind}".encode(), bytearray(b"[" * 100_000)), "r", 1)
    assert not isinstance(error, ProtocolError)
    assert error.may_have_run


def test_a_code_under_another_status_says_nothing() -> None:
    body = bytearray(b'{"code": "queue_full", "detail": "no"}')
    error = refusal(Reply(500, b"HTTP/1.1 500 X\r\nContent-Type: application/problem+json", body), "r", 1)
    assert error.may_have_run
    assert not getattr(error, "retryable", True)
