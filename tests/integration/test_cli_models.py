"""`penstock models` against a real server: the life of a model, and what is said when something is wrong."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serving import Server
from tests.unit.test_cli import penstock

SOURCE = """
from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32")}}
    outputs = {{"y": Tensor("float32")}}

    def predict(self, batch):
        return {{"y": batch["x"] * {factor}}}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server.start(["--development", "--data-dir", str(tmp_path / "data")], tmp_path)
    yield running
    running.stop()


@pytest.fixture
def models(server: Server) -> Run:
    """Run `penstock models ...` for the server: models("list"), models("show", "m", status=1)."""

    def run(*arguments: str, status: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
        result = penstock("models", *arguments, env={"PENSTOCK_URL": server.url, **env})
        assert result.returncode == status, result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def source(tmp_path: Path) -> Callable[[int], str]:
    """Write a model that multiplies: source(2) is its path."""

    def write(factor: int) -> str:
        path = tmp_path / "times.py"
        path.write_text(SOURCE.format(factor=factor))
        return str(path)

    return write


def answer(server: Server, **members: object) -> object:
    reply = server.predict(model="times", inputs=1, **members)
    return reply.json()["outputs"]["y"] if reply.status == 200 else reply.json()["code"]


def test_life_of_a_model(server: Server, models: Run, source: Callable[[int], str]) -> None:
    assert models("register", "times", source(2), "--version", "1.0.0").stdout == "registered times 1.0.0\n"
    assert answer(server) == "model_not_found"
    assert models("load", "times").stdout == "times is loaded\n"
    assert answer(server) == 2.0
    models("promote", "times", "1.0.0")
    assert models("register", "times", source(3)).stdout == "registered times 1.1.0\n"
    assert models("promote", "times", "1.1.0", "--reason", "better").stdout == "times 1.1.0 answers now\n"
    assert answer(server) == 3.0
    assert models("rollback", "times").stdout == "times 1.0.0 answers now\n"
    assert answer(server) == 2.0
    models("load", "times", "1.1.0")
    models("alias", "times", "staging", "1.1.0")
    assert answer(server, version="staging") == 3.0
    listed = models("list").stdout.splitlines()
    assert [line.split() for line in listed[1:]] == [
        ["times", "1.0.0", "ready", "yes", "champion", "python", "registry"],
        ["times", "1.1.0", "ready", "no", "staging", "python", "registry"],
    ]
    history = json.loads(models("history", "times", "--json").stdout)["events"]
    assert ("active", "1.1.0", "development") in {(each["kind"], each["version"], each["by"]) for each in history}
    assert models("alias", "times", "staging", "--remove").stdout == "times staging -> nowhere\n"
    assert models("unload", "times").stdout == "times is unloaded\n"
    assert answer(server) == "model_not_found"


def test_a_version_that_would_break_clients_is_promoted_when_that_is_said(
    models: Run, source: Callable[[int], str], tmp_path: Path
) -> None:
    models("register", "times", source(2), "--version", "1.0.0")
    models("promote", "times", "1.0.0")
    other = tmp_path / "other.py"
    other.write_text(Path(source(3)).read_text().replace('"y"', '"z"'))
    models("register", "times", str(other), "--version", "2.0.0")
    said = models("promote", "times", "2.0.0", status=1).stderr
    assert "would break clients of 1.0.0, which answers now: output 'y' is gone" in said
    assert models("alias", "times", "champion", "2.0.0", status=1).stderr == said
    assert models("promote", "times", "2.0.0", "--allow-schema-change").stdout == "times 2.0.0 answers now\n"
    models("rollback", "times")
    models("alias", "times", "champion", "2.0.0", "--allow-schema-change")


def test_show_says_what_was_registered(models: Run, source: Callable[[int], str], tmp_path: Path) -> None:
    card = tmp_path / "card.md"
    card.write_text("# Times\n\nMultiplies.\n")
    models(
        *(
            "register",
            "times",
            source(2),
            "--description",
            "multiplies",
            "--owner",
            "maths",
            "--tag",
            "a",
            "--tag",
            "b",
        ),
        *(
            "--metric",
            "error=0.5",
            "--lineage",
            "base=plus 1.0.0",
            "--environment",
            "numpy=2.1.0",
            "--framework",
            "none",
        ),
        *("--training-data", "nothing", "--card", str(card), "--backend", "python"),
        *("--set", "max_batch_size=8", "--set", "batch_sizes=[4, 8]", "--set", "queue_bytes=1MiB"),
    )
    shown = models("show", "times", "1.0.0").stdout
    assert shown.endswith("# Times\n\nMultiplies.\n")
    facts = dict(line.split("  ", 1) for line in shown.partition("\n\n")[0].splitlines())
    facts = {name.strip(): text.strip() for name, text in facts.items()}
    assert facts["description"] == "multiplies"
    assert facts["tags"] == "a, b"
    assert facts["metrics"] == "error 0.5"
    assert facts["settings"] == "max_batch_size 8, batch_sizes 4, 8, queue_bytes 1MiB"
    document = json.loads(models("show", "times", "latest", "--json").stdout)
    assert document["registration"]["settings"] == {
        "max_batch_size": 8,
        "batch_sizes": [4, 8],
        "queue_bytes": "1MiB",
    }
    assert document["registration"]["metadata"]["lineage"] == {"base": "plus 1.0.0"}
    assert "1.0.0" in models("show", "times").stdout


def test_upload_is_the_same_version(models: Run, source: Callable[[int], str], tmp_path: Path) -> None:
    models("register", "times", source(2))
    by_path = json.loads(models("show", "times", "1.0.0", "--json").stdout)
    (tmp_path / "card.md").write_text("long " * 10_000)
    wish = ("register", "times", source(2), "--version", "1.0.0", "--upload", "--card", str(tmp_path / "card.md"))
    assert models(*wish).stdout == "registered times 1.0.0\n"
    sent = json.loads(models("register", "other", source(2), "--upload", "--json").stdout)
    assert sent["registration"]["digest"] == by_path["registration"]["digest"]
    folder = tmp_path / "package"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.py").write_text(SOURCE.format(factor=5))
    (folder / "deep/word.txt").write_text("x")
    (folder / "schema.json").write_text("{}")
    one = json.loads(models("register", "package", str(folder), "--json").stdout)
    two = json.loads(models("register", "sent", str(folder), "--upload", "--json").stdout)
    assert one["files"] == two["files"]
    assert one["registration"]["digest"] == two["registration"]["digest"]


def test_pages_and_removal(models: Run, source: Callable[[int], str]) -> None:
    for factor in (2, 3, 4):
        models("register", "times", source(factor))
    page = models("list", "--limit", "2").stdout.splitlines()
    assert page[-1] == "more: penstock models list --after times@1.1.0"
    assert models("list", "--after", "times@1.1.0").stdout.splitlines()[1].split()[:2] == ["times", "1.2.0"]
    assert (
        models("history", "times", "--limit", "1").stdout.splitlines()[-1].startswith("more: penstock models history")
    )
    assert models("rm", "times", "1.1.0").stdout == "times 1.1.0 is removed\n"
    assert models("rm", "times").stdout == "times is removed\n"
    assert "'times'" in models("show", "times", status=1).stderr


def test_broken_model_is_told_with_its_reason(server: Server, models: Run, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("class Model:\n    def load(self): raise RuntimeError('out of ideas')\n")
    models("register", "broken", str(tmp_path / "broken.py"))
    said = models("promote", "broken", "latest", status=1)
    assert said.stderr.startswith("penstock: ")
    assert said.stdout == ""
    assert "failed" in models("list").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["show", "none"], 1, "penstock: no model 'none' is served"),
        (["load", "none"], 1, "penstock: "),
        (["history", "none", "--at", "noon"], 1, "penstock: at: expected a moment with its time zone"),
        (["alias", "none", "a", "1", "--remove"], 2, "penstock: --remove takes an alias away"),
        (["register", "m", "/no/such/file"], 1, "there is no file or folder"),
        (["register", "m", "/no/such/file", "--upload"], 2, "there is no file or folder"),
        (["register", "m", "x", "--metric", "accuracy"], 2, "penstock: --metric 'accuracy': write NAME=VALUE"),
        (["register", "m", "x", "--metric", "accuracy=high"], 2, "penstock: --metric: could not convert"),
        (["register", "m", "x", "--set", "a=1", "--set", "a=2"], 2, "penstock: --set 'a=2': write NAME=VALUE"),
        (["register", "m", "x", "--card", "no.md"], 2, "penstock: cannot read the model card no.md"),
        (["list", "--url", "ftp://x"], 2, "penstock: 'ftp://x' is no address of a server"),
        (["list", "--key-file", "no.key"], 2, "penstock: cannot read the key file no.key"),
        (["register"], 2, "Missing argument 'NAME'"),
    ],
)
def test_error_is_a_sentence(models: Run, arguments: list[str], status: int, message: str) -> None:
    result = models(*arguments, status=status)
    assert message in result.stderr
    assert result.stdout == ""


def test_server_over_a_unix_socket(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("s")
    path = folder / "p.sock"
    running = Server.start(["--development", "--data-dir", str(folder), "--unix-socket", str(path)], folder)
    try:
        assert penstock("models", "list", "--url", f"unix:{path}").stdout.split()[0] == "NAME"
        (folder / "times.py").write_text(SOURCE.format(factor=2))
        registered = penstock("models", "register", "times", str(folder / "times.py"), "--url", f"unix:{path}")
        assert registered.stdout == "registered times 1.0.0\n"
    finally:
        running.stop()


def test_upload_that_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "large.onnx").write_bytes(bytes(8 << 20))
    limits = {"PENSTOCK_CONTROL_BODY_BYTES_MAX": "64KiB", "PENSTOCK_DATA_DIR": str(tmp_path / "data")}
    running = Server.start(["--development"], tmp_path, limits)
    try:
        result = penstock("models", "register", "m", str(tmp_path / "large.onnx"), "--upload", "--url", running.url)
        assert (result.returncode, result.stdout) == (1, "")
        assert "65536" in result.stderr
    finally:
        running.stop()


def test_keys_open_what_their_role_allows(tmp_path: Path, source: Callable[[int], str]) -> None:
    data = {"PENSTOCK_DATA_DIR": str(tmp_path / "data")}
    keys = {
        role: penstock("keys", "create", role, "--role", role, env=data).stdout.strip()
        for role in ("admin", "operator", "predict")
    }
    running = Server.start([], tmp_path, data)
    try:

        def run(key: str | None, *arguments: str) -> tuple[int, str]:
            env = {"PENSTOCK_URL": running.url} | ({} if key is None else {"PENSTOCK_KEY": key})
            result = penstock("models", *arguments, env=env)
            return result.returncode, result.stdout + result.stderr

        register = ("register", "times", source(2))
        status, said = run(None, *register)
        assert status == 1
        assert said.rstrip().endswith("put a key into PENSTOCK_API_KEY, or into a file for --key-file")
        assert run("psk_0000000000000000_wrong", *register)[0] == 1
        status, said = run(keys["operator"], *register)
        assert (status, "role admin" in said) == (1, True)
        assert run(keys["admin"], *register) == (0, "registered times 1.0.0\n")
        assert run(keys["predict"], "load", "times")[0] == 1
        assert run(keys["operator"], "load", "times") == (0, "times is loaded\n")
        file = tmp_path / "key"
        file.write_text(keys["operator"] + "\n")
        assert run(None, "unload", "times", "--key-file", str(file)) == (0, "times is unloaded\n")
        assert run(None, "list")[0] == 0
        events = json.loads(run(None, "history", "times", "--json")[1])["events"]
        assert {each["by"] for each in events if each["kind"] == "wanted"} == {keys["operator"].split("_")[1]}
    finally:
        running.stop()


# Whoever answers at an address need not be Penstock.


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (200, b"<html>", "what answers is no Penstock"),
        (502, b"{}", "answers with 502"),
        (404, b"<html>", "not as Penstock does"),
    ],
)
def test_somebody_else_answers(status: int, body: bytes, message: str) -> None:
    with answering(status, body) as url:
        result = penstock("models", "list", "--url", url)
    assert (result.returncode, result.stdout) == (1, "")
    assert message in result.stderr


def test_nobody_answers() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        result = penstock("models", "list", "--url", url)
    assert (result.returncode, result.stdout) == (3, "")
    assert f"cannot connect to {url}: Connection refused; is `penstock serve` running there?" in result.stderr
    assert "--url or PENSTOCK_URL says where" in result.stderr


@pytest.mark.parametrize("variable", ["PENSTOCK_API_KEY", "PENSTOCK_KEY"])
@pytest.mark.parametrize("key", ["two words", "schlüssel"])
def test_what_is_no_key(variable: str, key: str) -> None:
    result = penstock("models", "list", env={variable: key})
    assert result.returncode == 2
    assert f"what {variable} holds is no key" in result.stderr
    assert key not in result.stderr


def test_help_and_errors_of_models_load_no_server() -> None:
    program = "import penstock.cli.models, penstock.cli.asking, sys; print(*sys.modules)"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(result.stdout.split()) & {"flask", "gevent", "numpy", "sqlite3", "penstock.registry"}
