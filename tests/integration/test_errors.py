"""Every refusal of the contract: status, code, the fields of the problem, and what else the reply must carry."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import pytest

from bench.wire import Reply, Wire, request_bytes
from tests.integration.gate import Gate
from tests.serving import Server

CATALOGUE = {
    entry["code"]: entry
    for entry in json.loads((Path(__file__).resolve().parents[2] / "sdk/contract/problems.json").read_text())
}
JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack"}
RAW = {"Content-Type": "application/octet-stream"}
GOOD = '{"model":"affine","inputs":[1,2,3,4]}'


@dataclass(frozen=True, slots=True)
class Case:
    """One request and the code that refuses it; the detail must mention each of `mentions`."""

    code: str
    body: str | bytes | None = GOOD
    target: str = "/predict"
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    mentions: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.method} {self.target} {str(self.body)[:60]}"


def inputs(value: object, model: str = "affine") -> str:
    return json.dumps({"model": model, "inputs": value})


CASES = [
    Case("malformed_body", ""),
    Case("malformed_body", "{"),
    Case("malformed_body", GOOD + "x"),
    Case("malformed_body", '{"model":"affine","inputs":[1,2,3,NaN]}'),
    Case("malformed_body", '{"model":"affine","inputs":[1,2,3,Infinity]}'),
    Case("malformed_body", '{"model":"affine","inputs":[1,2,3,4,]}'),
    Case("malformed_body", '{"model":"affine","inputs":[01,2,3,4]}'),
    Case("malformed_body", '{"model":"affine","model":"affine","inputs":[1,2,3,4]}'),
    Case("malformed_body", b'{"model":"aff\xffine","inputs":[1,2,3,4]}'),
    Case("malformed_body", b"\xc1", headers=MSGPACK),
    Case("malformed_body", msgpack.packb({"model": "affine"})[:-1], headers=MSGPACK),
    Case("malformed_request", target="/predict?model=affine&model=affine"),
    Case("malformed_request", headers=JSON | {"X-Request-Timeout-Ms": "soon"}),
    Case("malformed_request", headers=JSON | {"X-Request-Timeout-Ms": ""}, mentions=("milliseconds",)),
    Case(
        "malformed_request",
        headers=JSON | {"X-Request-Priority": "urgent"},
        mentions=("X-Request-Priority", "interactive", "normal", "batch"),
    ),
    Case("malformed_request", headers=JSON | {"X-Penstock-Reproducible": "yes"}, mentions=("true", "false")),
    Case("malformed_request", headers=JSON | {"X-Penstock-Receipt": "1"}, mentions=("X-Penstock-Receipt", "true")),
    Case("contradiction", target="/predict?model=mlp"),
    Case("contradiction", '{"model":"affine","version":"1","inputs":[1,2,3,4]}', "/predict?version=2"),
    Case("model_not_found", inputs([1], "missing"), mentions=("missing",)),
    Case("model_not_found", b"\0" * 16, "/predict?model=missing", headers=RAW),
    Case("version_not_found", '{"model":"affine","version":"7","inputs":[1,2,3,4]}', mentions=("7",)),
    Case("version_not_found", b"\0" * 16, "/predict?model=affine&version=7", headers=RAW),
    Case("not_found", None, "/nothing/here", "GET", {}),
    Case("not_acceptable", headers=JSON | {"Accept": "text/html"}),
    Case("not_acceptable", headers=JSON | {"Accept": "application/json;q=0"}),
    Case("unsupported_media_type", headers={"Content-Type": "application/x-nothing"}),
    Case("unsupported_media_type", headers={"Content-Type": "application/json; charset=latin1"}),
    Case("invalid_input", '{"model":"affine","inputs":[1,2,3,4],"extra":1}', mentions=("extra",)),
    Case("invalid_input", '{"model":"affine","inputs":[1,2,3,4],"entities":{"user":1}}', mentions=("entities",)),
    Case("invalid_input", '{"inputs":[1,2,3,4]}', mentions=("model",)),
    Case("invalid_input", '{"model":"affine"}', mentions=("inputs",)),
    Case("invalid_input", '{"model":3,"inputs":[1,2,3,4]}', mentions=("model", "string")),
    Case("invalid_input", '{"model":"affine","version":1,"inputs":[1,2,3,4]}', mentions=("version", "string")),
    Case("invalid_input", "[1,2,3,4]"),
    Case("invalid_input", inputs([1, 2, 3]), mentions=("inputs", "4", "3")),
    Case("invalid_input", inputs([1, 2, 3, 4, 5]), mentions=("inputs", "4")),
    Case("invalid_input", inputs([[1, 2], [3, 4]]), mentions=("inputs",)),
    Case("invalid_input", inputs([1, 2, 3, "four"]), mentions=("inputs", "float32")),
    Case("invalid_input", inputs([1, 2, 3, None]), mentions=("inputs", "null")),
    Case("invalid_input", inputs([1, 2, 3, True]), mentions=("inputs",)),
    Case("invalid_input", inputs([1, 2, 3, 1e39]), mentions=("inputs", "float32")),
    Case("invalid_input", inputs(None)),
    Case("invalid_input", inputs({"z": [1, 2, 3, 4]}), mentions=("z",)),
    Case("invalid_input", inputs({}), mentions=("x",)),
    Case("invalid_input", inputs({"x": [1, 2, 3, 4], "z": [1]}), mentions=("z",)),
    Case("invalid_input", inputs([1, 2, 3], "pair"), mentions=("a", "b")),
    Case("invalid_input", inputs({"a": [[1, 2, 3], [4, 5, 6]]}, "pair"), mentions=("b",)),
    Case(
        "invalid_input", inputs({"a": [[1, 2, 3], [4, 5, 6]], "b": [1, 2, 3, 4, 5.5]}, "pair"), mentions=("b", "int64")
    ),
    Case(
        "invalid_input",
        inputs({"a": [[1, 2, 3], [4, 5, 6]], "b": [1, 2, 3, 4, 2**63]}, "pair"),
        mentions=("b", "int64"),
    ),
    Case(
        "invalid_input", msgpack.packb({"model": "affine", "inputs": [1, 2, 3]}), headers=MSGPACK, mentions=("inputs",)
    ),
    Case("invalid_input", msgpack.packb({"model": "affine", "inputs": [1, 2, 3, "x"]}), headers=MSGPACK),
    Case("invalid_input", b"\0" * 15, "/predict?model=affine", headers=RAW, mentions=("15", "16")),
    Case("invalid_input", b"\0" * 16, "/predict?model=pair", headers=RAW),
    Case("invalid_input", target="/predict?output=z"),
    Case(
        "invalid_input",
        inputs({"a": [[1, 2, 3], [4, 5, 6]], "b": [1, 2, 3, 4, 5]}, "pair"),
        headers=JSON | {"Accept": "application/octet-stream"},
        mentions=("output",),
    ),
    Case("model_error", inputs([-1, 0, 0, 0], "echo"), mentions=("negative",)),
]


def assert_problem(reply: Reply, code: str) -> dict[str, object]:
    """Check a problem's form against the catalogue; its document."""
    assert reply.headers["content-type"] == "application/problem+json", reply
    problem = reply.json()
    entry = CATALOGUE[code]
    assert set(problem) == {"type", "title", "status", "detail", "code", "request_id"}, problem
    assert (problem["code"], problem["status"], problem["title"]) == (code, entry["status"], entry["title"]), problem
    assert reply.status == entry["status"]
    assert problem["type"] == f"/problems/{code}"
    assert problem["detail"]
    assert problem["request_id"] == reply.headers["x-request-id"]
    assert ("retry-after" in reply.headers) == (entry["status"] in (429, 503))
    return problem


@pytest.mark.parametrize("case", CASES, ids=str)
def test_refusal(wire: Wire, case: Case) -> None:
    body = case.body.encode() if isinstance(case.body, str) else case.body
    reply = wire.ask(case.method, case.target, body, case.headers | {"X-Request-Id": "mine"})
    problem = assert_problem(reply, case.code)
    assert problem["request_id"] == "mine"
    for text in case.mentions:
        assert text in str(problem["detail"]), problem
    # A refusal of a request that was understood as HTTP costs the client nothing but this reply.
    assert wire.ask("GET", "/health/live").status == 200


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/predict", {"OPTIONS", "POST"}),
        ("PUT", "/predict", {"OPTIONS", "POST"}),
        ("POST", "/health/live", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/health/ready", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_wrong_method_is_told_the_right_ones(wire: Wire, method: str, target: str, allow: set[str]) -> None:
    reply = wire.ask(method, target, b"")
    assert_problem(reply, "method_not_allowed")
    assert set(reply.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize("target", ["/models", "/metrics", "/nowhere"])
def test_whoever_changes_something_needs_a_key(wire: Wire, target: str) -> None:
    reply = wire.ask("DELETE", target, b"")
    assert_problem(reply, "unauthorized")
    assert reply.headers["www-authenticate"] == "Bearer"


def test_body_without_a_length(wire: Wire) -> None:
    wire.send(request_bytes("POST", "/predict", None, JSON))
    assert_problem(wire.reply(), "length_required")


def test_body_larger_than_any_row_is_refused_before_it_is_sent(wire: Wire) -> None:
    wire.send(request_bytes("POST", "/predict?model=affine", None, JSON | {"Content-Length": str(1 << 40)}))
    assert_problem(wire.reply(), "body_too_large")
    assert wire.is_closed_by_server()


def test_chunked_body_larger_than_any_row_is_cut_off(wire: Wire) -> None:
    wire.send(request_bytes("POST", "/predict?model=affine", None, JSON | {"Transfer-Encoding": "chunked"}))
    piece = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    try:
        for _ in range(4096):
            wire.send(piece)
    except OSError:
        pass  # refused and closed while we were still sending
    assert_problem(wire.reply(), "body_too_large")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % index for index in range(500)) + b"\r\n",
    ],
)
def test_head_over_its_limit(wire: Wire, head: bytes) -> None:
    wire.send(head)
    assert_problem(wire.reply(), "head_too_large")
    assert wire.is_closed_by_server()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"GET /health/live HTTP/2.0\r\nHost: x\r\n\r\n", "http_version_not_supported"),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: tea\r\nContent-Length: 2\r\n\r\n{}", "expectation_failed"),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not_implemented"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "uri_too_long"),
        (b"nonsense\r\n\r\n", "malformed_request"),
        (b"GET /predict?model=%zz HTTP/1.1\r\nHost: x\r\n\r\n", "malformed_request"),
    ],
)
def test_http_that_is_not_spoken(wire: Wire, head: bytes, code: str) -> None:
    wire.send(head)
    assert_problem(wire.reply(), code)
    assert wire.is_closed_by_server()


def test_deadline_passes_while_the_model_runs(
    serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate
) -> None:
    server = serve(models={"gated": gate.path})
    wire = connect(server)
    row = json.dumps({"inputs": [Gate.HOLD, 0, 0, 0]}).encode()
    timeouts = iter(("200", "2000", "20000", "200000"))
    try:
        reached = False
        while not reached:  # on a busy machine it may be late before a worker takes it
            wire.send(request_bytes("POST", "/predict", row, JSON | {"X-Request-Timeout-Ms": next(timeouts)}))
            assert_problem(wire.reply(), "deadline_exceeded")
            reached = gate.was_reached()
    finally:
        gate.open()
    # The late answer of the first row must not be taken for that of the next.
    after = wire.ask("POST", "/predict", b'{"inputs":[1,2,3,4]}', JSON)
    assert (after.status, after.json()["outputs"]["y"]) == (200, [2, 4, 6, 8])


def test_no_detail_gives_a_path_away(serve: Callable[..., Server], connect: Callable[..., Wire], gate: Gate) -> None:
    wire = connect(serve(models={"gated": gate.path}))
    reply = wire.ask("POST", "/predict", json.dumps({"inputs": [Gate.RAISE, 0, 0, 0]}).encode(), JSON)
    problem = assert_problem(reply, "model_error")
    assert "taste" in str(problem["detail"])
    assert "/" not in str(problem["detail"]) and "Traceback" not in str(problem["detail"])
