"""Predictions through both clients, against the real server."""

import math
from typing import Any

import numpy as np
import pytest

from penstock_client import ArgumentError, Client, ConnectError, ModelSchema, Retries, TensorSpec
from penstock_client.problems import InvalidInputError, ModelError, ModelNotFoundError, VersionNotFoundError
from penstock_client.tensors import as_rows
from tests.sdk.asking import Ask
from tests.serving import Server

ROW = [1.0, 2.0, 3.0, 4.0]
PAIR = {"a": [[1, 2, 3], [4, 5, 6]], "b": [1, 2, 3, 4, 5]}


def test_plain_values_come_back_as_plain_values(ask: Ask) -> None:
    answer = ask("predict", "affine", ROW)
    assert (answer.model, answer.version) == ("affine", "1")
    assert answer.outputs == {"y": [3.0, 5.0, 7.0, 9.0]}
    assert answer.output == [3.0, 5.0, 7.0, 9.0]
    assert ask("predict", "pair", PAIR).outputs == {"scaled": [[3.0, 6.0, 9.0], [12.0, 15.0, 18.0]], "total": 15}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "uint8", ">f4"])
def test_arrays_come_back_as_arrays_of_the_models_dtype(ask: Ask, dtype: str) -> None:
    outputs = ask("predict", "affine", np.array(ROW, dtype)).outputs
    assert outputs["y"].dtype == np.float32
    assert outputs["y"].tolist() == [3.0, 5.0, 7.0, 9.0]
    outputs["y"][0] = 0  # it is the caller's own


def test_named_arrays(ask: Ask) -> None:
    outputs = ask("predict", "pair", {name: np.array(value, float) for name, value in PAIR.items()}).outputs
    assert outputs["scaled"].tolist() == [[3.0, 6.0, 9.0], [12.0, 15.0, 18.0]]
    assert outputs["total"] == 15
    assert outputs["total"].dtype == np.int64


def test_an_array_that_is_not_contiguous(ask: Ask) -> None:
    wide = np.arange(8, dtype=np.float32)
    assert ask("predict", "affine", wide[::2]).outputs["y"].tolist() == [1.0, 5.0, 9.0, 13.0]


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize(
    "inputs", [PAIR, {name: np.array(value) for name, value in PAIR.items()}], ids=["plain", "arrays"]
)
def test_encodings_on_request_answer_plainly(ask: Ask, encoding: str, inputs: Any) -> None:
    answer = ask("predict", "pair", inputs, encoding=encoding)
    assert answer.outputs == {"scaled": [[3.0, 6.0, 9.0], [12.0, 15.0, 18.0]], "total": 15}


def test_lists_as_binary_on_request(ask: Ask) -> None:
    assert ask("predict", "affine", ROW, encoding="binary").outputs["y"].tolist() == [3.0, 5.0, 7.0, 9.0]


@pytest.mark.parametrize("encoding", ["json", "msgpack", "binary"])
def test_numbers_that_are_not_finite(ask: Ask, encoding: str) -> None:
    values = list(ask("predict", "echo", [1.0, math.nan, math.inf, -math.inf], encoding=encoding).outputs["y"])
    assert values[0] == 1.0
    assert math.isnan(values[1])
    assert values[2:] == [math.inf, -math.inf]


@pytest.mark.parametrize("version", ["1", "latest"])
@pytest.mark.parametrize("inputs", [ROW, np.array(ROW)], ids=["plain", "array"])
def test_a_version(ask: Ask, version: str, inputs: Any) -> None:
    assert ask("predict", "affine", inputs, version=version).version == "1"


@pytest.mark.parametrize("inputs", [ROW, np.array(ROW)], ids=["plain", "array"])
def test_a_receipt(ask: Ask, inputs: Any) -> None:
    receipt = ask("predict", "affine", inputs, receipt=True).receipt
    assert (receipt.version, receipt.batch_rows, receipt.sealed) == ("1", 1, "idle")
    assert receipt.queue_us >= 0
    assert receipt.batch_us >= receipt.run_us >= 0
    assert ask("predict", "affine", inputs).receipt is None


def test_the_request_id_comes_back(ask: Ask) -> None:
    assert ask("predict", "affine", ROW, request_id="mine-1").request_id == "mine-1"
    first, second = (ask("predict", "affine", ROW).request_id for _ in range(2))
    assert first != second


def test_priority_and_reproducible(ask: Ask) -> None:
    answer = ask("predict", "affine", ROW, priority="interactive", reproducible=True, receipt=True)
    assert answer.receipt.sealed == "reproducible"


@pytest.mark.parametrize("inputs", [[1.0, 2.0], np.float32([1, 2])], ids=["plain", "array"])
def test_what_does_not_fit_is_a_typed_error(ask: Ask, inputs: Any) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ask("predict", "affine", inputs, request_id="r-7")
    error = caught.value
    assert (error.code, error.status, error.title) == ("invalid_input", 422, "Invalid input")
    assert error.request_id
    assert not error.may_have_run
    assert "4" in error.detail
    assert error.request_id in str(error)


@pytest.mark.parametrize("rows", [1, 2])
def test_an_array_of_rows_is_no_row(ask: Ask, rows: int) -> None:
    with pytest.raises(ArgumentError, match=rf"x float32\[4\], got .* \({rows}, 4\): predict_batch takes rows"):
        ask("predict", "affine", np.ones((rows, 4), np.float32))


def test_tls_where_there_is_none(ask: Ask, server: Server) -> None:
    with pytest.raises(ConnectError) as caught:
        ask("predict", "affine", ROW, client={"url": server.url.replace("http:", "https:"), "retries": Retries(1)})
    assert "does not speak TLS" in caught.value.detail
    assert f"is it {server.url} without TLS?" in caught.value.detail


def test_models_and_versions_that_are_not_there(ask: Ask) -> None:
    for inputs in (ROW, np.array(ROW)):
        with pytest.raises(ModelNotFoundError):
            ask("predict", "nope", inputs)
        with pytest.raises(VersionNotFoundError):
            ask("predict", "affine", inputs, version="77")


def test_a_model_that_raises(ask: Ask) -> None:
    with pytest.raises(ModelError, match="negative") as caught:
        ask("predict", "echo", [-1, 0, 0, 0])
    assert caught.value.may_have_run
    assert caught.value.attempts == 1


@pytest.mark.parametrize(
    "inputs",
    [[object()], {1, 2}, np.array(["a"]), np.array([1.5, 2j, 0, 0]), "\ud83d"],
    ids=["object", "set", "strings", "complex", "surrogate"],
)
def test_what_cannot_be_sent_is_said_before_it_is(ask: Ask, inputs: Any) -> None:
    with pytest.raises(ArgumentError) as caught:
        ask("predict", "affine", inputs)
    assert caught.value.attempts == 0


@pytest.mark.parametrize(
    "options",
    [{"timeout_s": 0}, {"priority": "urgent"}, {"encoding": "xml"}, {"request_id": "a b"}, {"request_id": "a\r\nX: y"}],
    ids=str,
)
def test_options_that_are_none(ask: Ask, options: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError):
        ask("predict", "affine", ROW, **options)


def test_names_that_are_no_strings(ask: Ask) -> None:
    for inputs in (ROW, np.array(ROW)):
        with pytest.raises(ArgumentError, match="strings"):
            ask("predict", "affine", inputs, version=1)
    with pytest.raises(ArgumentError, match="strings"):
        ask("predict_batch", "affine", [ROW], version=1)
    with pytest.raises(ArgumentError, match="strings"):
        ask("schema", None)


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://h:99999", "unix:", "http://u:p@h", "localhost:8000"])
def test_urls_that_are_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_URL", "nonsense")
    with pytest.raises(ArgumentError):
        Client(url)


def test_a_key_that_would_break_the_head() -> None:
    with pytest.raises(ArgumentError):
        Client("http://127.0.0.1:1", key="psk_1\r\nX: y")


def test_url_and_key_come_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_URL", server.url)
    with Client() as client:
        assert client.predict("affine", ROW).version == "1"
        assert repr(client) == f"Client({server.url!r})"


def test_integers_only_where_they_stay_what_they_are(ask: Ask) -> None:
    inputs = {"a": np.ones((2, 3)), "b": np.array([1.0, 2.0, 3.0, 4.0, 5.0])}
    assert ask("predict", "pair", inputs).outputs["total"] == 15
    with pytest.raises(ArgumentError, match=r"inputs\.b: .* does not become int64"):
        ask("predict", "pair", {**inputs, "b": np.array([1.5, 2, 3, 4, 5])})


def test_schema(ask: Ask) -> None:
    assert ask("schema", "pair") == ModelSchema(
        "pair",
        (TensorSpec("a", "float32", (2, 3)), TensorSpec("b", "int64", (5,))),
        (TensorSpec("scaled", "float32", (2, 3)), TensorSpec("total", "int64", ())),
    )


@pytest.mark.parametrize(
    ("given", "dtype", "fits"),
    [
        (np.array([1e39]), "float32", False),
        (np.array([np.inf, np.nan]), "float32", True),
        (np.array([1e-60, 0.1]), "float32", True),
        (np.array([70_000]), "float16", False),
        (np.array([2**31]), "int32", False),
        (np.array([-1]), "uint64", False),
        (np.array([2**63], np.uint64), "int64", False),
        (np.array([2.0**63]), "int64", False),
        (np.array([2.0**62]), "int64", True),
        (np.array([300]), "uint8", False),
        (np.array([255], np.uint64), "uint8", True),
        (np.array([3.5]), "int64", False),
        (np.array([np.nan]), "int64", False),
        (np.array([np.inf]), "int64", False),
        (np.array([1, 0]), "bool", False),
        (np.array([True]), "float32", True),
        (np.array([1, 2.5], object), "float32", True),
        (np.array([1, None], object), "float32", False),
        (np.array(["1"]), "float32", False),
        (np.array([1j]), "float32", False),
        (np.array([], np.float64), "int64", True),
    ],
)
def test_no_number_becomes_another(given: np.ndarray, dtype: str, fits: bool) -> None:
    schema = ModelSchema("m", (TensorSpec("x", dtype, (None,)),), ())
    if not fits:
        with pytest.raises(ArgumentError, match=r"inputs\.x"):
            as_rows(given, schema, one=False)
        return
    (made,) = as_rows(given, schema, one=False).values()
    assert made.dtype == dtype
    np.testing.assert_allclose(made.astype(float), given.astype(float), rtol=1e-6, atol=1e-30)
