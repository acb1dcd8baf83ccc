"""Web pages of other origins, HEAD and OPTIONS, timing: what a browser or a proxy expects of every route."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.wire import Reply, Wire
from tests.serving import Server

PAGE = "https://app.example"
JSON = {"Content-Type": "application/json"}
BODY = b'{"model":"affine","inputs":[1,2,3,4]}'
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}

READABLE = {"GET", "HEAD", "OPTIONS"}
# Every route, and what it takes.
ROUTES = {
    "/predict": {"OPTIONS", "POST"},
    "/health": READABLE,
    "/health/live": READABLE,
    "/health/ready": READABLE,
    "/ready": READABLE,
    "/": READABLE,
    "/metrics": READABLE,
    "/openapi.json": READABLE,
    "/models": READABLE | {"POST"},
    "/models/affine": READABLE | {"DELETE"},
    "/models/affine/versions/1": READABLE | {"DELETE"},
    "/models/affine/load": {"OPTIONS", "POST"},
    "/models/affine/unload": {"OPTIONS", "POST"},
    "/models/affine/aliases/champion": READABLE | {"DELETE", "PUT"},
    "/models/affine/promote": {"OPTIONS", "POST"},
    "/models/affine/rollback": {"OPTIONS", "POST"},
    "/models/affine/history": READABLE,
    "/keys": READABLE | {"POST"},
    "/keys/none": {"DELETE", "OPTIONS"},
    "/predict/batch": {"OPTIONS", "POST"},
    "/v2": READABLE,
    "/v2/health/live": READABLE,
    "/v2/health/ready": READABLE,
    "/v2/models/affine": READABLE,
    "/v2/models/affine/versions/1": READABLE,
    "/v2/models/affine/ready": READABLE,
    "/v2/models/affine/infer": {"OPTIONS", "POST"},
    "/v2/models/affine/versions/1/infer": {"OPTIONS", "POST"},
    "/v2/models/affine/config": READABLE,
    "/v2/models/affine/stats": READABLE,
    "/v2/models/stats": READABLE,
    "/v2/repository/index": {"OPTIONS", "POST"},
    "/v2/repository/models/affine/load": {"OPTIONS", "POST"},
    "/v2/repository/models/affine/unload": {"OPTIONS", "POST"},
}
# The data plane answers for these itself.
NATIVE = {
    target for target in ROUTES if target.endswith(("/infer", "/live", "/ready")) or target.startswith("/predict")
} | {"/health"}


def start(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, **settings: str) -> Server:
    (model,) = model_folder.glob("affine.*")
    variables = {f"PENSTOCK_{name.upper()}": value for name, value in settings.items()}
    return Server.start([f"affine={model}"], tmp_path_factory.mktemp("manners"), variables)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Server]:
    """A server that lets pages of one origin in, and nobody without a key."""
    origins = f"http://localhost:3000,{PAGE}"
    running = start(tmp_path_factory, model_folder, cors_origins=origins, require_key="true")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def anybody(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Server]:
    """A server in development mode that lets every page in."""
    running = start(tmp_path_factory, model_folder, cors_origins="*", development="true")
    yield running
    running.stop()


def assert_granted(reply: Reply, origin: str = PAGE) -> None:
    assert reply.headers["access-control-allow-origin"] == origin
    assert reply.headers["access-control-expose-headers"] == "*"
    assert reply.headers["timing-allow-origin"] == origin
    assert "access-control-allow-credentials" not in reply.headers
    assert (reply.headers.get("vary") == "Origin") == (origin != "*")


def assert_not_granted(reply: Reply) -> None:
    assert not [name for name in reply.headers if name.startswith(("access-control-", "timing-"))]


@pytest.mark.parametrize("target", [*ROUTES, "/nowhere"])
def test_preflight_needs_no_key(listed: Server, connect: Callable[..., Wire], target: str) -> None:
    wire = connect(listed)
    reply = wire.ask("OPTIONS", target, headers=PREFLIGHT)
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers
    assert_granted(reply)
    assert {"GET", "POST", "PUT", "DELETE"} <= set(reply.headers["access-control-allow-methods"].split(", "))
    assert reply.headers["access-control-allow-headers"] == "*, Authorization"
    assert int(reply.headers["access-control-max-age"]) > 0
    # Of another page it is an OPTIONS like any other, and this server answers nobody without a key but for health.
    foreign = wire.ask("OPTIONS", target, headers=PREFLIGHT | {"Origin": "https://evil.example"})
    assert_not_granted(foreign)
    assert foreign.status == (204 if target in NATIVE else 401)
    assert foreign.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", [PAGE, "http://localhost:3000"])
@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/models", 401),
        ("POST", "/predict", 401),
        ("PUT", "/health", 405),
        ("GET", "/nowhere", 401),
    ],
)
def test_page_may_read_what_it_gets(
    listed: Server, connect: Callable[..., Wire], origin: str, method: str, target: str, status: int
) -> None:
    reply = connect(listed).ask(method, target, BODY if method != "GET" else None, JSON | {"Origin": origin})
    assert reply.status == status
    assert_granted(reply, origin)


@pytest.mark.parametrize("fields", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_others_are_answered_and_may_not_read(
    listed: Server, connect: Callable[..., Wire], fields: dict[str, str]
) -> None:
    reply = connect(listed).ask("GET", "/health/live", None, fields)
    assert reply.status == 200
    assert_not_granted(reply)
    assert reply.headers["vary"] == "Origin"  # or a cache gives it to the page


def test_page_hears_why_its_body_was_refused(anybody: Server, listed: Server, connect: Callable[..., Wire]) -> None:
    large = JSON | {"Origin": PAGE, "Content-Length": str(1 << 40)}
    wire = connect(anybody)
    wire.send(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in large.items()).encode())
    wire.send(b"\r\n")
    refused = wire.reply()
    assert refused.status == 413
    assert_granted(refused, "*")
    wire = connect(listed)
    wire.send(b"POST /predict HTTP/1.1\r\nHost: x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in large.items()).encode())
    wire.send(b"\r\n")
    refused = wire.reply()
    assert refused.status == 401
    assert_granted(refused)


def test_every_page_may_read_of_an_open_server(anybody: Server, connect: Callable[..., Wire]) -> None:
    wire = connect(anybody)
    for method, target in [("POST", "/predict"), ("GET", "/models"), ("GET", "/nowhere"), ("GET", "/predict")]:
        reply = wire.ask(method, target, BODY if method == "POST" else None, JSON | {"Origin": PAGE})
        assert_granted(reply, "*")
    wire.send(b"GET / HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n")
    refused = wire.reply()
    assert refused.status == 400
    assert_granted(refused, "*")


def test_no_page_changes_anything_in_development_mode(anybody: Server, connect: Callable[..., Wire]) -> None:
    body = b'{"name": "me", "role": "admin"}'
    fields = JSON | {"Host": f"127.0.0.1:{anybody.port}"}
    foreign = connect(anybody).ask("POST", "/keys", body, fields | {"Origin": PAGE})
    assert foreign.status == 403
    own = connect(anybody).ask("POST", "/keys", body, fields | {"Origin": f"http://127.0.0.1:{anybody.port}"})
    assert own.status == 201


def test_nobody_asked_for_it(wire: Wire) -> None:
    for method, target in [("OPTIONS", "/predict"), ("GET", "/models"), ("GET", "/health")]:
        reply = wire.ask(method, target, None, PREFLIGHT)
        assert_not_granted(reply)
        assert "vary" not in reply.headers


@pytest.mark.parametrize("target", ROUTES)
def test_options_names_the_methods(wire: Wire, target: str) -> None:
    reply = wire.ask("OPTIONS", target)
    assert (reply.status, reply.body) == (204, b"")
    assert set(reply.headers["allow"].split(", ")) == ROUTES[target]
    assert not {"content-length", "content-type"} & set(reply.headers)
    assert wire.ask("GET", "/health/live").status == 200


@pytest.mark.parametrize("target", ROUTES)
def test_head_is_taken_where_get_is(wire: Wire, target: str) -> None:
    reply = wire.ask("HEAD", target)
    assert reply.body == b""
    assert (reply.status == 405) == ("GET" not in ROUTES[target])
    if reply.status == 405:
        assert set(reply.headers["allow"].split(", ")) == ROUTES[target]
    assert wire.ask("GET", "/health/live").status == 200


def test_options_of_the_server(wire: Wire) -> None:
    reply = wire.ask("OPTIONS", "*")
    assert (reply.status, reply.body) == (204, b"")
    assert "GET" in reply.headers["allow"]


def test_receipt_tells_browsers_what_took_how_long(wire: Wire) -> None:
    reply = wire.ask("POST", "/predict", BODY, JSON | {"X-Penstock-Receipt": "true"})
    assert reply.status == 200
    pattern = r"queue;dur=(\d+\.\d{3}), batch;dur=(\d+\.\d{3}), run;dur=(\d+\.\d{3})"
    matched = re.fullmatch(pattern, reply.headers["server-timing"])
    assert matched is not None
    for told, field in zip(matched.groups(), ("queue", "batch", "run"), strict=True):
        assert float(told) * 1000 == pytest.approx(float(reply.headers[f"x-penstock-{field}-us"]))
    assert "server-timing" not in wire.ask("POST", "/predict", BODY, JSON).headers
