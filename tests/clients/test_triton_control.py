"""What tritonclient asks of a server besides inference: an unmodified client, a real server."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__
from tests.clients.element_types import DTYPES
from tests.integration.supervised import until
from tests.serving import Server

pytestmark = pytest.mark.clients


def test_server_lives(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()


def test_server_says_who_it_is(client: Any) -> None:
    metadata = client.get_server_metadata()
    assert (metadata["name"], metadata["version"]) == ("penstock", __version__)
    assert {"binary_tensor_data", "model_configuration", "model_repository", "statistics"} <= set(
        metadata["extensions"]
    )


@pytest.mark.parametrize("version", ["", "1", "latest"])
def test_model_is_ready(client: Any, version: str) -> None:
    assert client.is_model_ready("affine", version)


@pytest.mark.parametrize(("name", "version"), [("nothing", ""), ("affine", "9"), ("nothing", "1")])
def test_model_that_is_not_there_is_not_ready(client: Any, name: str, version: str) -> None:
    assert not client.is_model_ready(name, version)


@pytest.mark.parametrize("version", ["", "1"])
def test_metadata(client: Any, version: str) -> None:
    assert client.get_model_metadata("pair", version) == {
        "name": "pair",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1, 2, 3]},
            {"name": "b", "datatype": "INT64", "shape": [-1, 5]},
        ],
        "outputs": [
            {"name": "scaled", "datatype": "FP32", "shape": [-1, 2, 3]},
            {"name": "total", "datatype": "INT64", "shape": [-1]},
        ],
    }


def test_lengths_that_vary_are_minus_one(client: Any) -> None:
    shapes = {each["name"]: each["shape"] for each in client.get_model_metadata("tokens")["inputs"]}
    assert shapes == {"ids": [-1, -1], "mask": [-1, -1]}


def test_every_element_type_is_named(client: Any) -> None:
    inputs = client.get_model_metadata("types")["inputs"]
    assert [each["datatype"] for each in inputs] == list(DTYPES)


@pytest.mark.parametrize("version", ["", "1"])
def test_configuration(client: Any, version: str) -> None:
    config = client.get_model_config("affine", version)
    assert (config["name"], config["backend"], config["max_batch_size"]) == ("affine", "onnxruntime", 64)
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["input"]] == [("x", "TYPE_FP32", [4])]
    assert [(each["name"], each["data_type"], each["dims"]) for each in config["output"]] == [("y", "TYPE_FP32", [4])]
    assert not config["model_transaction_policy"]["decoupled"]


def test_statistics_of_all_models(client: Any) -> None:
    listed = {each["name"] for each in client.get_inference_statistics()["model_stats"]}
    assert {"affine", "pair", "tokens", "echo", "types"} <= listed


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda client: client.get_model_metadata("nothing"), "no model 'nothing'"),
        (lambda client: client.get_model_config("affine", "9"), "has no version '9'"),
        (lambda client: client.get_inference_statistics("nothing"), "no model 'nothing'"),
        (lambda client: client.load_model("affine"), "belongs to this server's configuration"),
        (lambda client: client.get_trace_settings(), "there is no route"),
    ],
)
def test_refusals_are_read_by_the_client(triton: Any, client: Any, ask: Any, text: str) -> None:
    with pytest.raises(triton.InferenceServerException) as refused:
        ask(client)
    assert text in refused.value.message()
    assert refused.value.status() in {"404", "409"}


def test_repository_lists_what_is_served(client: Any) -> None:
    index = client.get_model_repository_index()
    assert {"name": "affine", "version": "1", "state": "READY", "reason": ""} in index


def test_registered_model_is_loaded_and_unloaded(
    triton: Any, client: Any, foreign_server: Server, registered_file: Path
) -> None:
    body = json.dumps({"name": "lent", "path": str(registered_file)})
    assert foreign_server.request("POST", "/models", body, {"Content-Type": "application/json"}).status == 201
    assert not client.is_model_ready("lent")
    with pytest.raises(triton.InferenceServerException, match="registered, but not in memory"):
        client.get_model_metadata("lent")
    client.load_model("lent")
    assert client.is_model_ready("lent")
    assert client.get_model_metadata("lent")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    client.unload_model("lent")
    until(lambda: not client.is_model_ready("lent"), "the model is gone")
