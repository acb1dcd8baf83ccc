"""The control plane over its real Unix socket. What it reads is plain data: counters as the engine gives them."""

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from penstock.control.app import make_app
from penstock.control.hub import HubEvent, wait_until
from penstock.control.server import ControlServer
from penstock.control.state import ServerState
from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, ModelStatus, WorkerState, WorkerStatus

SECONDS = 30.0

HISTOGRAM = {"bounds": [0.001, 0.01, 0.1], "counts": [5, 3, 0, 2], "sum": 1.5}
RING: dict[str, Any] = {
    "ring": 7,
    "model": "digits",
    "version": "1",
    "rows_claimed": 100,
    "claims_refused": 4,
    "bell_rings": 9,
    "batches_done": 12,
    "partial_takes_held": 3,
    "lost_wakeups": 0,
    "rows_queued": 5,
    "rows_ok": 90,
    "rows_failed": 2,
    "deadline_exceeded": 1,
    "histograms": {
        "queue_seconds": HISTOGRAM,
        "run_seconds": HISTOGRAM,
        "total_seconds": HISTOGRAM,
        "batch_seconds": HISTOGRAM,
        "batch_size": {"bounds": [1, 2, 4], "counts": [3, 4, 5, 0], "sum": 31},
    },
}
STATS: dict[str, Any] = {
    "ready": True,
    "draining": False,
    "connections": {"open": 3, "accepted": 20, "refused": 1, "timed_out": 2},
    "responses": {"200": 90, "422": 2},
    "body_pool": {"bytes_used": 4096, "bytes_max": 1 << 27, "waits": 6, "refused": 0},
    "loop": {"passes": 50, "wakeups": 30, "longest_pass_us": 2500, "lost_wakeups": 0},
    "control": {"forwarded": 8, "failed": 0, "active": 1},
    "rings": [RING],
}
DIGITS = ModelStatus(
    config=ModelConfig(name="digits", path=Path("digits.onnx"), max_batch_size=128),
    state=ModelState.READY,
    latest=True,
    workers=(
        WorkerStatus(worker=0, pid=4711, state=WorkerState.READY, restarts=2),
        WorkerStatus(worker=1, pid=None, state=WorkerState.BACKING_OFF, restarts=1),
    ),
    inputs=(("pixels", "float32", (64,)),),
    outputs=(("label", "int64", ()), ("probabilities", "float32", (10,))),
    backend="onnx",
    ring=7,
    max_batch_size=64,
    rerun_on_worker_death=True,
)
BROKEN = ModelStatus(
    config=ModelConfig(name="broken", path=Path("broken.onnx"), version="2024-01"),
    state=ModelState.FAILED,
    latest=True,
    detail="not an ONNX file",
)


@dataclass
class Recorded:
    """Counters and models as they were at one moment."""

    counters: Any = field(default_factory=lambda: STATS)
    statuses: Sequence[ModelStatus] = (DIGITS, BROKEN)

    def stats(self) -> Mapping[str, Any]:
        if isinstance(self.counters, Exception):
            raise self.counters
        return self.counters

    def models(self) -> Sequence[ModelStatus]:
        return self.statuses


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(SECONDS)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Control:
    path: Path
    source: Recorded

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = UnixConnection(self.path)
        try:
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Any:
        response, body = self.request("GET", target, headers)
        assert response.status == 200, body
        assert response.headers["Content-Type"] == "application/json"
        return json.loads(body)


@pytest.fixture
def control() -> Iterator[Control]:
    source = Recorded()
    state = ServerState(stats=source, models=source, log_records_dropped=lambda: 11)
    folder = tempfile.TemporaryDirectory(prefix="penstock-")  # a socket's path is short, pytest's may be long
    path = Path(folder.name) / "control.sock"
    started = threading.Event()
    stop: list[HubEvent] = []

    def run() -> None:
        server = ControlServer(make_app(state), path)
        server.start()
        stop.append(HubEvent())
        started.set()
        stop[0].wait()
        server.stop()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(SECONDS)
    yield Control(path, source)
    stop[0].set()
    thread.join(SECONDS)
    assert not thread.is_alive()
    assert not path.exists()
    folder.cleanup()


def assert_problem(response: http.client.HTTPResponse, body: bytes, status: int, code: str) -> dict[str, Any]:
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(body)
    assert list(problem) == ["type", "title", "status", "detail", "code", "request_id"]
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"/problems/{code}"
    assert response.headers["X-Request-Id"] == problem["request_id"]
    return problem


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
    assert control.get("/models") == {
        "models": [
            {"name": "digits", "version": "1", "latest": True, "state": "ready", "backend": "onnx"},
            {"name": "broken", "version": "2024-01", "latest": True, "state": "failed", "backend": None},
        ]
    }


def test_model_is_described(control: Control) -> None:
    assert control.get("/models/digits") == {
        "name": "digits",
        "versions": [
            {
                "version": "1",
                "latest": True,
                "state": "ready",
                "detail": None,
                "backend": "onnx",
                "inputs": [{"name": "pixels", "dtype": "float32", "shape": [64]}],
                "outputs": [
                    {"name": "label", "dtype": "int64", "shape": []},
                    {"name": "probabilities", "dtype": "float32", "shape": [10]},
                ],
                "batching": {"max_batch_size": 64, "max_queue_delay_us": 0, "instances": 1},
                "limits": {"queue_bytes": 67108864, "intra_op_threads": 1},
                "on_worker_death": "rerun",
                "workers": [
                    {"worker": 0, "pid": 4711, "state": "ready", "restarts": 2},
                    {"worker": 1, "pid": None, "state": "backing_off", "restarts": 1},
                ],
                "counters": {
                    "rows_claimed": 100,
                    "rows_ok": 90,
                    "rows_failed": 2,
                    "rows_queued": 5,
                    "claims_refused": 4,
                    "deadline_exceeded": 1,
                    "batches_done": 12,
                },
            }
        ],
    }


def test_model_that_never_loaded_is_described(control: Control) -> None:
    (version,) = control.get("/models/broken")["versions"]
    assert version["state"] == "failed"
    assert version["detail"] == "not an ONNX file"
    assert version["counters"] is None
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
@pytest.mark.parametrize("target", ["/", "/models", "/models/digits", "/metrics", "/openapi.json"])
def test_wrong_method_is_a_problem_with_allow(control: Control, method: str, target: str) -> None:
    response, body = control.request(method, target, body=b'{"a": 1}')
    assert_problem(response, body, 405, "method_not_allowed")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS"


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
    assert response.status == 200
    assert body == b""
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "Content-Type" not in response.headers


def test_options_of_the_server(control: Control) -> None:
    response, body = control.request("OPTIONS", "*")
    assert (response.status, body) == (200, b"")
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


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


def metrics_of(control: Control) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response, body = control.request("GET", "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


MODEL = (("model", "digits"), ("version", "1"))


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("penstock_ready", (), 1),
        ("penstock_draining", (), 0),
        ("penstock_connections_open", (), 3),
        ("penstock_connections_accepted_total", (), 20),
        ("penstock_connections_refused_total", (), 1),
        ("penstock_connections_timed_out_total", (), 2),
        ("penstock_responses_total", (("status", "200"),), 90),
        ("penstock_responses_total", (("status", "422"),), 2),
        ("penstock_body_pool_used_bytes", (), 4096),
        ("penstock_body_pool_limit_bytes", (), 1 << 27),
        ("penstock_body_pool_waits_total", (), 6),
        ("penstock_loop_passes_total", (), 50),
        ("penstock_loop_wakeups_total", (), 30),
        ("penstock_loop_lost_wakeups_total", (), 0),
        ("penstock_loop_longest_pass_seconds", (), 0.0025),
        ("penstock_control_forwarded_total", (), 8),
        ("penstock_log_records_dropped_total", (), 11),
        ("penstock_rows_total", (*MODEL[:1], ("outcome", "ok"), MODEL[1]), 90),
        ("penstock_rows_total", (*MODEL[:1], ("outcome", "failed"), MODEL[1]), 2),
        ("penstock_rows_claimed_total", MODEL, 100),
        ("penstock_claims_refused_total", MODEL, 4),
        ("penstock_bell_rings_total", MODEL, 9),
        ("penstock_batches_total", MODEL, 12),
        ("penstock_partial_takes_held_total", MODEL, 3),
        ("penstock_lost_wakeups_total", MODEL, 0),
        ("penstock_deadline_exceeded_total", MODEL, 1),
        ("penstock_queue_rows", MODEL, 5),
        ("penstock_model_ready", MODEL, 1),
        ("penstock_model_ready", (("model", "broken"), ("version", "2024-01")), 0),
        ("penstock_worker_restarts_total", MODEL, 3),
        ("penstock_workers", (MODEL[0], ("state", "ready"), MODEL[1]), 1),
        ("penstock_workers", (MODEL[0], ("state", "backing_off"), MODEL[1]), 1),
        ("penstock_request_seconds_bucket", (("le", "0.001"), *MODEL), 5),
        ("penstock_request_seconds_bucket", (("le", "0.1"), *MODEL), 8),
        ("penstock_request_seconds_bucket", (("le", "+Inf"), *MODEL), 10),
        ("penstock_request_seconds_count", MODEL, 10),
        ("penstock_request_seconds_sum", MODEL, 1.5),
        ("penstock_queue_seconds_count", MODEL, 10),
        ("penstock_batch_seconds_count", MODEL, 10),
        ("penstock_run_seconds_count", MODEL, 10),
        ("penstock_batch_size_sum", MODEL, 31),
    ],
)
def test_metric_has_its_value(control: Control, name: str, labels: tuple[tuple[str, str], ...], value: float) -> None:
    assert metrics_of(control)[name, labels] == value


def test_metrics_say_how_much_memory_the_process_takes(control: Control) -> None:
    assert metrics_of(control)["process_resident_memory_bytes", ()] > 1e6


def test_metrics_are_read_when_asked(control: Control) -> None:
    assert metrics_of(control)["penstock_ready", ()] == 1
    control.source.counters = STATS | {"ready": False, "rings": []}
    metrics = metrics_of(control)
    assert metrics["penstock_ready", ()] == 0
    assert ("penstock_queue_rows", MODEL) not in metrics


def test_document_lists_every_metric(control: Control) -> None:
    document = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
    documented = {
        name: tuple(sorted(labels.replace(" ", "").split(","))) if labels else ()
        for name, labels in re.findall(r"^\| `(penstock_\w+)` \| (.*?) ?\| .+ \|$", document, re.MULTILINE)
    }
    _, body = control.request("GET", "/metrics")
    exported = {}
    for family in text_string_to_metric_families(body.decode()):
        if family.name.startswith("penstock_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            exported[family.samples[0].name.removesuffix("_bucket")] = tuple(sorted(labels))
    assert documented == exported


def test_rings_of_one_model_version_are_added_up(control: Control) -> None:
    control.source.counters = STATS | {"rings": [RING, RING | {"ring": 8, "rows_queued": 1}]}
    metrics = metrics_of(control)
    assert metrics["penstock_rows_claimed_total", MODEL] == 200
    assert metrics["penstock_queue_rows", MODEL] == 6
    assert metrics["penstock_run_seconds_count", MODEL] == 20
    assert metrics["penstock_run_seconds_sum", MODEL] == 3.0


def test_openmetrics_is_sent_to_who_asks(control: Control) -> None:
    response, body = control.request("GET", "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")


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


def test_hub_event_wakes_the_hub_from_another_thread() -> None:
    event = HubEvent()
    thread = threading.Thread(target=event.set)
    thread.start()
    event.wait()
    thread.join()
    assert event.is_set()


def test_hub_event_wakes_the_hub_from_a_signal_handler() -> None:
    event = HubEvent()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: event.set())
    try:
        threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        event.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_of_several_hub_events_is_enough() -> None:
    first, second = HubEvent(), HubEvent()
    threading.Thread(target=second.set).start()
    HubEvent.wait_any(first, second)
    assert (first.is_set(), second.is_set()) == (False, True)


@pytest.mark.parametrize(("answers", "result"), [([False, False, True], True), ([True], True), ([False], False)])
def test_wait_until_returns_what_became_of_the_condition(answers: list[bool], result: bool) -> None:
    left: Callable[[], bool] = lambda: answers.pop(0) if len(answers) > 1 else answers[0]  # noqa: E731
    assert wait_until(left, 30.0 if result else 0.0, interval_s=0.0) is result
