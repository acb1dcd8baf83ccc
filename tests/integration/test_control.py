"""The control plane over its real Unix socket. What it reads is plain data: counters as the engine gives them."""

import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from tests.integration.control_plane import DIGITS, SECONDS, Control, assert_problem


def test_socket_is_private(control: Control) -> None:
    assert stat.S_IMODE(control.path.stat().st_mode) == 0o600


def test_index_leads_to_routes_that_exist(control: Control) -> None:
    index = control.get("/")
    assert index["name"] == "penstock"
    assert re.fullmatch(r"\d+\.\d+\.\d+", index["version"])
    for link in ("models", "metrics", "openapi"):
        response, _ = control.request("GET", index["links"][link])
        assert response.status == 200


def test_models_are_listed(control: Control) -> None:
    beside = {"latest": True, "origin": "configuration", "digest": None, "aliases": []}
    assert control.get("/models") == {
        "models": [
            {"name": "digits", "version": "1", "state": "ready", "backend": "onnx"} | beside,
            {"name": "broken", "version": "2024-01", "state": "failed", "backend": None} | beside,
        ],
        "next": None,
        "registry_failure": "this server was started without one",
    }


def test_model_is_described(control: Control) -> None:
    assert control.get("/models/digits") == {
        "name": "digits",
        "aliases": {},
        "versions": [
            {
                "version": "1",
                "latest": True,
                "state": "ready",
                "detail": None,
                "backend": "onnx",
                "origin": "configuration",
                "aliases": [],
                "inputs": [{"name": "pixels", "dtype": "float32", "shape": [64]}],
                "record": None,
                "outputs": [
                    {"name": "label", "dtype": "int64", "shape": []},
                    {"name": "probabilities", "dtype": "float32", "shape": [10]},
                ],
                "batching": {
                    "max_batch_size": 64,
                    "batch_sizes": [16, 32],
                    "reproducible_batch_size": 16,
                    "lengths": [],
                    "max_batch_tokens": 0,
                    "max_queue_delay_us": 0,
                    "slo_ms": 20,
                    "weight": 300,
                    "group": "readers",
                    "instances": 1,
                },
                "limits": {"queue_bytes": 67108864, "intra_op_threads": 1},
                "on_worker_death": "rerun",
                "memory_bytes": None,
                "workers": [
                    {"worker": 0, "pid": os.getpid(), "state": "ready", "restarts": 2},
                    {"worker": 1, "pid": None, "state": "backing_off", "restarts": 1},
                    {"worker": 63, "pid": 4712, "state": "quarantine", "restarts": 0},
                ],
                "cost": {
                    "curve": [
                        {"rows": 1, "mean_seconds": 0.001, "p99_seconds": 0.002},
                        {"rows": 64, "mean_seconds": 0.004, "p99_seconds": 0.005},
                    ],
                    "fixed_seconds": 0.00095,
                    "per_row_seconds": 0.00005,
                    "samples": 42,
                    "error_p95": 0.08,
                    "off_share": 0.004,
                    "alarm": False,
                },
                "cost_by_length": [],
                "counters": {
                    "rows_claimed": 100,
                    "rows_ok": 90,
                    "rows_failed": 2,
                    "rows_queued": 5,
                    "claims_refused": 4,
                    "deadline_exceeded": 1,
                    "rows_shed": 6,
                    "rows_refused_deadline": 7,
                    "padded_rows": 8,
                    "batches_done": 12,
                },
                "cache": None,
                "registration": None,
            }
        ],
        "registry_failure": "this server was started without one",
    }


def test_model_that_never_loaded_is_described(control: Control) -> None:
    (version,) = control.get("/models/broken")["versions"]
    assert version["state"] == "failed"
    assert version["detail"] == "not an ONNX file"
    assert version["counters"] is None
    assert version["cost"] is None
    assert version["inputs"] == []


def test_all_versions_of_a_model_are_described(control: Control) -> None:
    other = replace(DIGITS, config=replace(DIGITS.config, version="2"), latest=True, ring=8)
    control.source.statuses = (replace(DIGITS, latest=False), other)
    versions = control.get("/models/digits")["versions"]
    assert [(version["version"], version["latest"]) for version in versions] == [("1", False), ("2", True)]


def test_unknown_model_is_a_problem(control: Control) -> None:
    problem = assert_problem(*control.request("GET", "/models/letters"), 404, "model_not_found")
    assert "letters" in problem["detail"]


@pytest.mark.parametrize(
    "target", ["/nothing", "/models/", "/models//digits", "/models/a/b", "/static/x", "/%00", "/models/a%2Fb"]
)
def test_unknown_route_is_a_problem(control: Control, target: str) -> None:
    assert_problem(*control.request("GET", target), 404, "not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    ("target", "more"),
    [
        ("/", set()),
        ("/models", {"POST"}),
        ("/models/digits", {"DELETE"}),
        ("/models/digits/aliases/champion", {"DELETE", "PUT"}),
        ("/metrics", set()),
        ("/openapi.json", set()),
    ],
)
def test_wrong_method_is_a_problem_with_allow(control: Control, method: str, target: str, more: set[str]) -> None:
    response, body = control.request(method, target, body=b'{"a": 1}')
    if method in more:
        assert_problem(response, body, 401, "unauthorized")
    else:
        assert_problem(response, body, 405, "method_not_allowed")
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"} | more


@pytest.mark.parametrize("target", ["/", "/models", "/models/digits", "/metrics", "/openapi.json"])
def test_head_is_get_without_a_body(control: Control, target: str) -> None:
    got, body = control.request("GET", target)
    head, nothing = control.request("HEAD", target)
    assert head.status == 200
    assert nothing == b""
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    # /metrics counts this process's CPU time, which moves on between two scrapes.
    if target != "/metrics":
        assert head.headers["Content-Length"] == str(len(body))


def test_options_lists_the_methods(control: Control) -> None:
    response, body = control.request("OPTIONS", "/models")
    assert response.status == 204
    assert body == b""
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert "Content-Type" not in response.headers


def test_options_of_the_server(control: Control) -> None:
    response, body = control.request("OPTIONS", "*")
    assert (response.status, body) == (204, b"")
    assert response.headers["Allow"] == "DELETE, GET, HEAD, OPTIONS, POST, PUT"


def test_reason_is_the_standards(control: Control) -> None:
    assert control.request("GET", "/nothing")[0].reason == "Not Found"
    assert control.request("GET", "/models")[0].reason == "OK"


def test_failure_inside_is_a_problem_without_its_reason(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    control.source.counters = RuntimeError("the secret of /etc/penstock")
    response, body = control.request("GET", "/models/digits")
    problem = assert_problem(response, body, 500, "internal_error")
    assert b"secret" not in body
    (record,) = [record for record in caplog.records if record.name == "penstock.control.problem"]
    assert record.exc_info is not None
    assert record.__dict__["request_id"] == problem["request_id"]


def test_request_id_is_the_data_planes(control: Control) -> None:
    response, body = control.request("GET", "/nothing", {"X-Penstock-Request-Id": "abc-1"})
    assert assert_problem(response, body, 404, "not_found")["request_id"] == "abc-1"


def test_request_id_is_made_when_none_came(control: Control) -> None:
    ids = {control.request("GET", "/models")[0].headers["X-Request-Id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", made) for made in ids)


@pytest.mark.parametrize("accept", ["application/json", "*/*", "application/*", "text/html, */*;q=0.1", ""])
def test_json_is_sent_to_who_takes_it(control: Control, accept: str) -> None:
    assert control.get("/models", {"Accept": accept})["models"]


@pytest.mark.parametrize("accept", ["application/msgpack", "text/plain", "application/json;q=0"])
def test_other_encodings_are_not_acceptable(control: Control, accept: str) -> None:
    assert_problem(*control.request("GET", "/models", {"Accept": accept}), 406, "not_acceptable")


@pytest.mark.parametrize(
    ("target", "schema"),
    [
        ("/", "Index"),
        ("/models", "ModelList"),
        ("/models/digits", "Model"),
        ("/models/broken", "Model"),
        ("/openapi.json", "OpenApi"),
    ],
)
def test_answer_fits_its_schema(control: Control, target: str, schema: str) -> None:
    document = control.get("/openapi.json")
    described = document["paths"][target if target in document["paths"] else "/models/{name}"]["get"]
    content = described["responses"]["200"]["content"]["application/json"]
    assert content["schema"] == {"$ref": f"#/components/schemas/{schema}"}
    answer = control.get(target)
    Draft202012Validator(content["schema"] | {"components": document["components"]}).validate(answer)
    # Nothing is told that the description does not know.
    properties = document["components"]["schemas"][schema].get("properties")
    assert properties is None or list(answer) == list(properties)
    if schema == "Model":
        assert list(answer["versions"][0]) == list(document["components"]["schemas"]["ModelVersion"]["properties"])


def test_problem_fits_its_schema(control: Control) -> None:
    document = control.get("/openapi.json")
    _, body = control.request("GET", "/models/letters")
    schema = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    Draft202012Validator(schema).validate(json.loads(body))


def test_requests_at_once_are_all_answered(control: Control) -> None:
    answers: list[int] = []

    def ask() -> None:
        answers.append(control.request("GET", "/models")[0].status)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert answers == [200] * 32


def test_broken_request_closes_the_connection_and_harms_nobody(control: Control) -> None:
    with socket.socket(socket.AF_UNIX) as broken:
        broken.settimeout(SECONDS)
        broken.connect(str(control.path))
        broken.sendall(b"NOT HTTP\r\n\r\n")
        received = b""
        while piece := broken.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 400 ")
    assert control.get("/models")["models"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(control: Control) -> None:
    # Even where the modes of file and folder would let it in.
    control.path.chmod(0o666)
    control.path.parent.chmod(0o755)
    program = (
        "import os, socket, sys\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.settimeout(30); s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(b'GET /models HTTP/1.0\\r\\n\\r\\n')\n"
        "    print(len(s.recv(1)))\n"
        "except OSError as error: print(type(error).__name__)\n"
    )
    command = [sys.executable, "-c", program, str(control.path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True)
    assert result.stdout.strip() in {"0", "ConnectionResetError", "BrokenPipeError"}
    assert control.get("/models")["models"]
