"""What the control plane tells in the Open Inference Protocol, over its real Unix socket."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from penstock import __version__
from penstock.core.config import BackendName, ModelConfig
from penstock.core.status import ModelState
from tests.integration.control_plane import DIGITS, RING, STATS, Control

VERSIONS = ("", "/versions/1", "/versions/latest")
DTYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bytes": "BYTES",
}


def refusal(control: Control, target: str, status: int, code: str) -> str:
    """The text under `error`, where the protocol's clients look for it."""
    response, body = control.request("GET", target)
    problem = json.loads(body)
    assert (response.status, problem["code"], problem["status"]) == (status, code, status)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert problem["error"] == problem["detail"]
    return str(problem["error"])


def test_server_is_described(control: Control) -> None:
    answer = control.get("/v2")
    assert answer["name"] == "penstock"
    assert answer["version"] == __version__
    assert {"statistics", "model_configuration", "model_repository"} <= set(answer["extensions"])


@pytest.mark.parametrize("version", VERSIONS)
def test_tensors_have_the_batch_dimension_first(control: Control, version: str) -> None:
    assert control.get(f"/v2/models/digits{version}") == {
        "name": "digits",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "pixels", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ],
    }


def test_every_element_type_has_its_name(control: Control) -> None:
    tensors = tuple((f"x_{dtype}", dtype, (None, 3)) for dtype in DTYPES)
    control.source.statuses = (replace(DIGITS, inputs=tensors, backend="python"),)
    answer = control.get("/v2/models/digits")
    assert {each["name"]: each["datatype"] for each in answer["inputs"]} == {f"x_{a}": b for a, b in DTYPES.items()}
    assert {tuple(each["shape"]) for each in answer["inputs"]} == {(-1, -1, 3)}
    assert answer["platform"] == "python"
    config = control.get("/v2/models/digits/config")
    assert {each["name"]: each["data_type"] for each in config["input"]} == {
        f"x_{a}": "TYPE_STRING" if b == "BYTES" else f"TYPE_{b}" for a, b in DTYPES.items()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_configuration_is_in_tritons_words(control: Control, version: str) -> None:
    config = control.get(f"/v2/models/digits{version}/config")
    assert (config["name"], config["backend"], config["platform"]) == ("digits", "onnxruntime", "onnxruntime_onnx")
    assert config["max_batch_size"] == 64  # what the ring made of 128
    assert config["input"] == [
        {
            "name": "pixels",
            "data_type": "TYPE_FP32",
            "dims": [64],
            "format": "FORMAT_NONE",
            "is_shape_tensor": False,
            "optional": False,
            "allow_ragged_batch": False,
        }
    ]
    assert [(each["name"], each["dims"]) for each in config["output"]] == [("label", []), ("probabilities", [10])]
    assert config["dynamic_batching"]["preferred_batch_size"] == [16, 32]
    assert config["instance_group"][0]["count"] == 1


@pytest.mark.parametrize("target", ["/v2/models/stats", *(f"/v2/models/digits{each}/stats" for each in VERSIONS)])
def test_statistics_are_the_engines_counters(control: Control, target: str) -> None:
    (stats,) = control.get(target)["model_stats"]
    assert (stats["name"], stats["version"]) == ("digits", "1")
    assert (stats["inference_count"], stats["execution_count"]) == (90, 12)
    taken = {name: (entry["count"], entry["ns"]) for name, entry in stats["inference_stats"].items()}
    rows = 10  # that the histograms have seen
    assert taken == {
        "success": (90, 1_500_000_000),
        # 4 and 7 refused, 2 failed, 6 shed, 1 too late
        "fail": (20, 0),
        "queue": (rows, 1_500_000_000),
        # Each row took what its batch took: 1 x 4 ms in 3 batches of one, 4 x 30 ms in 9 of four.
        "compute_input": (rows, 1 * 1_000_000 + 4 * 3_000_000),
        "compute_infer": (rows, 1 * 3_000_000 + 4 * 27_000_000),
        "compute_output": (rows, 0),
        "cache_hit": (31, 3100),
        "cache_miss": (32, 6400),
    }
    assert [each["batch_size"] for each in stats["batch_stats"]] == [1, 4]
    assert stats["batch_stats"][1]["compute_infer"] == {"count": 9, "ns": 27_000_000}
    assert stats["batch_stats"][1]["compute_input"] == {"count": 9, "ns": 3_000_000}


def test_rings_of_one_version_are_added_up(control: Control) -> None:
    other = {**RING, "ring": 8, "batches_by_size": [(4, 1, 5_000_000, 5_000_000), (8, 2, 9, 7)]}
    control.source.counters = {**STATS, "rings": [RING, other]}
    (stats,) = control.get("/v2/models/digits/stats")["model_stats"]
    assert stats["inference_count"] == 180
    assert [(each["batch_size"], each["compute_infer"]["count"]) for each in stats["batch_stats"]] == [
        (1, 3),
        (4, 10),
        (8, 2),
    ]


def test_version_that_nobody_asked_yet_has_zeros(control: Control) -> None:
    control.source.counters = {**STATS, "rings": []}
    (stats,) = control.get("/v2/models/digits/stats")["model_stats"]
    assert (stats["inference_count"], stats["execution_count"], stats["batch_stats"]) == (0, 0, [])
    assert {(entry["count"], entry["ns"]) for entry in stats["inference_stats"].values()} == {(0, 0)}


def test_versions_are_told_apart(control: Control) -> None:
    second = replace(DIGITS, config=replace(DIGITS.config, version="2"), inputs=(("x", "int8", ()),), aliases=("next",))
    control.source.statuses = (DIGITS, replace(second, latest=False))
    assert control.get("/v2/models/digits")["inputs"][0]["name"] == "pixels"
    for version in ("2", "next"):
        answer = control.get(f"/v2/models/digits/versions/{version}")
        assert answer["inputs"] == [{"name": "x", "datatype": "INT8", "shape": [-1]}]
        assert answer["versions"] == ["1", "2"]
        assert [
            each["version"] for each in control.get(f"/v2/models/digits/versions/{version}/stats")["model_stats"]
        ] == ["2"]
    assert len(control.get("/v2/models/digits/stats")["model_stats"]) == 2


@pytest.mark.parametrize("suffix", ["", "/config", "/stats"])
def test_what_is_not_there_is_refused(control: Control, suffix: str) -> None:
    assert "letters" in refusal(control, f"/v2/models/letters{suffix}", 404, "model_not_found")
    assert "'9'" in refusal(control, f"/v2/models/digits/versions/9{suffix}", 404, "version_not_found")
    assert "not an ONNX file" in refusal(control, f"/v2/models/broken{suffix}", 503, "model_unavailable")
    assert refusal(control, f"/v2/models/digits{suffix}?colour=red", 422, "invalid_input").startswith("colour: ")


@pytest.mark.parametrize("state", [ModelState.LOADING, ModelState.UNLOADED, ModelState.STOPPED])
def test_version_without_workers_is_not_described(control: Control, state: ModelState) -> None:
    tensors = () if state is ModelState.LOADING else DIGITS.outputs
    control.source.statuses = (replace(DIGITS, state=state, outputs=tensors),)
    assert str(state) in refusal(control, "/v2/models/digits", 503, "model_unavailable")
    assert control.get("/v2/models/stats") == {"model_stats": []}


def test_every_route_below_v2_says_errors_as_the_protocol_has_them(control: Control) -> None:
    assert refusal(control, "/v2/nothing", 404, "not_found")
    response, body = control.request("DELETE", "/v2")
    assert (response.status, json.loads(body)["error"]) == (405, json.loads(body)["detail"])
    _, body = control.request("GET", "/v20")
    assert "error" not in json.loads(body)


def documented(control: Control) -> list[tuple[str, dict[str, Any]]]:
    schemas = control.get("/openapi.json")
    return [
        (path.replace("{name}", "digits").replace("{version}", "1"), item["get"])
        for path, item in schemas["paths"].items()
        if path.startswith("/v2") and "get" in item
    ]


def test_answers_fit_their_schemas(control: Control) -> None:
    components = control.get("/openapi.json")["components"]
    control.source.statuses = (DIGITS, replace(DIGITS, config=ModelConfig(name="x", path=Path("x"))))
    checked = 0
    for path, operation in documented(control):
        if "health" in path or path.endswith("/ready"):
            continue  # answered by the data plane
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(schema | {"components": components}).validate(control.get(path))
        checked += 1
    assert checked == 8


@pytest.mark.parametrize("backend", list(BackendName))
def test_every_backend_has_a_platform(control: Control, backend: BackendName) -> None:
    control.source.statuses = (replace(DIGITS, backend=str(backend)),)
    assert control.get("/v2/models/digits")["platform"]
