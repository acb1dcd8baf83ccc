"""`penstock watch` as a person meets it: in a terminal, in a pipe and as JSON, at a server under load."""

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import penstock_client
from penstock import __version__
from penstock.cli.watch.watching import Gone, Watch
from tests.integration.gate import Gate
from tests.integration.supervised import until
from tests.serving import Server
from tests.terminal import Terminal

SECONDS = 300.0
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "NO_COLOR", "COLUMNS"))},
    "PYTHONUTF8": "1",
}
COMMAND = [sys.executable, "-m", "penstock", "watch"]
LEAVES_ALTERNATE, SHOWS_CURSOR = "\x1b[?1049l", "\x1b[?25h"


def watch(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**ENVIRONMENT, **(env or {})},
    )


@contextmanager
def load(
    server: Server, model: str, version: str | None = None, row: Sequence[float] = (1.0, 2.0, 3.0, 4.0)
) -> Iterator[None]:
    """Ask a model again and again; a server that is gone is asked again, too."""
    stop = threading.Event()

    def ask() -> None:
        with penstock_client.Client(server.url) as client:
            while not stop.is_set():
                try:
                    client.predict(model, list(row), version=version)
                except penstock_client.PenstockError:
                    stop.wait(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def seen(shows: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Look until a look shows this: nobody says when a busy machine runs what it is asked."""
    deadline = time.monotonic() + SECONDS
    while not re.search(shows, (result := watch("--once", "--interval", "0.5", *arguments)).stdout, re.MULTILINE):
        assert time.monotonic() < deadline, result
    return result


class Lines:
    """The JSON that a watch prints, line by line."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([*COMMAND, "--json", *arguments], stdout=subprocess.PIPE, env=ENVIRONMENT)
        assert self.process.stdout is not None
        self._output = self.process.stdout
        self._rest = b""

    def next(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\n" not in self._rest:
            readable, _, _ = select.select([self._output], [], [], deadline - time.monotonic())
            assert readable, "no line came"
            self._rest += os.read(self._output.fileno(), 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        document: dict[str, Any] = json.loads(line)
        return document

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Return the documents up to one that is wanted."""
        deadline = time.monotonic() + SECONDS
        documents = [self.next()]
        while not wanted(documents[-1]):
            assert time.monotonic() < deadline, documents[-1]
            documents.append(self.next())
        return documents

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._output.close()


@pytest.fixture
def lines() -> Iterator[Callable[..., Lines]]:
    started: list[Lines] = []

    def start(*arguments: str) -> Lines:
        started.append(Lines(*arguments))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(*arguments: str, **more: Any) -> Terminal:
        opened.append(Terminal([*COMMAND, *arguments], ENVIRONMENT, **more))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


@pytest.fixture
def two(serve, model_folder: Path) -> Server:
    server: Server = serve(models={"affine": model_folder / "affine.onnx", "other": model_folder / "affine.onnx"})
    return server


def test_once_is_one_plain_picture(two: Server) -> None:
    with load(two, "affine"):
        result = seen(r"^affine +1 +[1-9]", "--url", two.url)
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    head, answers, _, titles, *rows = result.stdout.splitlines()
    assert head.startswith(f"Penstock {__version__}  {two.url}  ready")
    assert re.search(
        r"^[\d.,]+ answers/s  200 [\d.,]+   \d+ connections   main process [\d.]+ CPUs, [\d.]+ MiB"
        r"   workers [\d.]+ CPUs, [\d.]+ MiB$",
        answers,
    )
    assert " ".join(titles.split()) == "MODEL VERSION ROWS/S P50 MS P99 MS BATCH QUEUE ERRORS/S CPUS MEMORY WORKERS"
    asked, idle = (row.split() for row in rows)
    assert asked[:2] == ["affine", "1"]
    assert float(asked[2].replace(",", "")) > 0
    p50, p99 = (float(each.replace(",", "")) for each in asked[3:5])
    assert 0 < p50 <= p99
    assert float(asked[5]) >= 1
    assert idle[:8] == ["other", "1", "0", "-", "-", "-", "0", "0"]
    assert idle[10:] == asked[10:] == ["MiB", "1"]
    assert float(idle[9]) > 1


def test_a_narrow_picture_keeps_what_matters(two: Server) -> None:
    result = watch("--once", "--interval", "0.1", "--url", two.url, env={"COLUMNS": "50"})
    assert result.stdout.splitlines()[3].split() == ["MODEL", "VERSION", "ROWS/S", "P99", "MS", "QUEUE", "ERRORS/S"]


def test_every_row_is_counted_once(two: Server, lines) -> None:
    told = lines("--interval", "0.1", "--url", two.url)
    first = told.next()
    assert first["up"] is True
    assert first["server"]["version"] == __version__
    with penstock_client.Client(two.url) as client:
        client.predict_batch("affine", [[1.0, 2.0, 3.0, 4.0]] * 700)
        for _ in range(50):
            client.predict("other", [1.0, 2.0, 3.0, 4.0])
    counted = {"affine": 0.0, "other": 0.0}

    def note(document: dict[str, Any]) -> bool:
        for model in document["models"]:
            counted[model["model"]] += model["rows_per_s"] * document["seconds"]
        return counted["affine"] >= 699.5 and counted["other"] >= 49.5

    documents = told.until(note)
    note(told.next())
    assert counted == {"affine": pytest.approx(700), "other": pytest.approx(50)}
    busy = max(documents, key=lambda document: sum(model["rows_per_s"] for model in document["models"]))
    assert busy["models"][0]["latency_ms_p99"] > 0
    assert busy["models"][0]["workers"] == {"ready": 1}
    assert busy["server"]["cpus_used"] >= 0


def test_errors_are_told_by_their_code(serve, gate: Gate) -> None:
    server = serve(models={"m": gate.path})
    with load(server, "m", row=[Gate.RAISE, 0.0, 0.0, 0.0]):
        seen(r"^m 1: failed [\d.,]+/s$", "--url", server.url)
        document = json.loads(seen(r'"failed": (?!0\.0\b)', "--json", "--url", server.url).stdout)
    (model,) = document["models"]
    assert model["errors_per_s"]["failed"] > 0
    assert model["rows_per_s"] == 0
    assert document["server"]["responses_per_s"]["500"] > 0


def test_a_model_alone_is_told_in_detail(two: Server) -> None:
    with load(two, "affine"):
        result = seen(r"batches  [1-9]", "affine", "--url", two.url)
    assert "other" not in result.stdout
    assert re.search(r"waiting  p50 [\d.]+  p99 [\d.]+ ms\n  running  p50 [\d.]+", result.stdout)
    assert re.search(r"batches  [\d.,]+/s  \w+ [\d.,]+/s", result.stdout)


def test_shares_of_versions(serve, model_folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "two.toml"
    entries = (
        f'[[models]]\nname = "m"\nversion = "{version}"\npath = "{model_folder}/affine.onnx"\n' for version in "12"
    )
    config.write_text("".join(entries))
    server = serve("--config", str(config))
    shares = [0.0, 0.0]

    def both_have_one() -> bool:
        document = json.loads(watch("--json", "--once", "--url", server.url).stdout)
        shares[:] = [model["share"] or 0.0 for model in document["models"]]
        return min(shares) > 0.05

    with load(server, "m", "1"), load(server, "m", "2"):
        until(both_have_one, "both versions answer")
    assert sum(shares) == pytest.approx(1)


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a server listens that goes away and comes back."""
    return tmp_path_factory.mktemp("s") / "socket"


def start_at(place: Path, model: Path) -> Server:
    return Server.start([f"m={model}", "--unix-socket", str(place)], place.parent)


def test_a_server_that_comes_back_is_watched_on(lines, model_folder: Path, place: Path) -> None:
    model = model_folder / "affine.onnx"
    told = lines("--interval", "0.1", "--url", f"unix:{place}")
    assert told.next()["up"] is False  # it is waited for from the beginning
    server = start_at(place, model)
    with load(server, "m"):
        told.until(lambda document: bool(document["up"] and document["models"][0]["rows_per_s"] > 0))
    server.stop()
    (*_, gone) = told.until(lambda document: not document["up"])
    assert gone["error"]
    again = start_at(place, model)
    with load(again, "m"):
        documents = told.until(lambda document: bool(document["up"] and document["models"][0]["rows_per_s"] > 0))
    again.stop()
    rates = [model["rows_per_s"] for document in documents if document["up"] for model in document["models"]]
    assert min(rates) >= 0
    assert max(rates) < 20_000


def test_a_server_that_was_started_again_between_two_looks_began_anew(model_folder: Path, place: Path, lines) -> None:
    server = start_at(place, model_folder / "affine.onnx")
    with penstock_client.Client(server.url) as client:
        client.predict_batch("m", [[1.0, 2.0, 3.0, 4.0]] * 300)
    with penstock_client.Client(f"unix:{place}") as client:
        seen = Watch(client)
        assert not isinstance(seen.look(), Gone)
        server.stop()
        again = start_at(place, model_folder / "affine.onnx")
        with penstock_client.Client(again.url) as other:
            other.predict_batch("m", [[1.0, 2.0, 3.0, 4.0]] * 400)
        figures = seen.look()
        again.stop()
    assert not isinstance(figures, Gone)
    (model,) = figures.models
    assert (model.rows_per_s or 0) * figures.seconds == pytest.approx(400)


def test_no_server_is_said_so_once(tmp_path: Path) -> None:
    result = watch("--once", "--url", f"unix:{tmp_path}/nobody")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("penstock: ")
    assert "Traceback" not in result.stderr


def test_a_model_that_is_not_there_is_told(two: Server) -> None:
    for how in (["--once"], ["--json"], []):
        result = watch("spam", *how, "--interval", "0.1", "--url", two.url)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "penstock: the server has no model 'spam'; it has affine, other\n"


def test_a_server_that_wants_a_key_is_not_waited_for(serve, model_folder: Path) -> None:
    server = serve("--require-key", models={"m": model_folder / "affine.onnx"})
    result = watch("--url", server.url)
    assert result.returncode == 1
    assert "(unauthorized)" in result.stderr


def test_somebody_else_at_the_address_is_told(serve, model_folder: Path) -> None:
    server = serve(models={"m": model_folder / "affine.onnx"})
    result = watch("--once", "--url", f"{server.url}/elsewhere")
    assert result.returncode == 1
    assert result.stderr.startswith("penstock: ")


def test_a_pipe_gets_pictures_until_nobody_reads(two: Server) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--interval", "0.1", "--url", two.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        heads = 0
        while heads < 3:
            heads += process.stdout.readline().startswith(b"Penstock ")
        process.stdout.close()
        assert process.wait(SECONDS) == 141
        assert process.stderr.read() == b""


def test_it_is_live_in_a_terminal_and_q_ends_it(two: Server, terminal) -> None:
    with load(two, "affine"):
        shown = terminal("--interval", "0.2", "--url", two.url)
        at = shown.until(r"Penstock \S+  http://\S+  ready")
        at = shown.until(r"affine +1 +[1-9][\d,.]*[^\n]*[▁▂▃▄▅▆▇█]{4}", after=at)
        # Narrower at once, or with the next look.
        shown.resize(50, 30)
        shown.until(r"MODEL +VERSION +ROWS/S +P99 MS +QUEUE +ERRORS/S *\n", after=at)
        during = shown.settings()
        shown.press("x")
        shown.press("q")
        assert shown.ended() == 0
    assert during != shown.before  # keys were taken at once, and are again as they were
    assert shown.settings() == shown.before
    assert shown.raw.rstrip().endswith((LEAVES_ALTERNATE, SHOWS_CURSOR))
    assert LEAVES_ALTERNATE in shown.raw and SHOWS_CURSOR in shown.raw


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_terminal_as_it_was(two: Server, terminal, number: signal.Signals, status: int) -> None:
    shown = terminal("--url", two.url)
    shown.until("ready")
    if number is signal.SIGINT:
        shown.press("\x03")
    else:
        shown.send(number)
    assert shown.ended() == status
    assert shown.settings() == shown.before
    assert LEAVES_ALTERNATE in shown.raw and SHOWS_CURSOR in shown.raw
    assert "Traceback" not in shown.text()


def test_it_can_be_stopped_and_continued(two: Server) -> None:
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], {**ENVIRONMENT, "PS1": "shell> "})
    try:
        at = shell.until("shell> ")
        shell.press(f"{shlex.join(COMMAND)} --interval 0.2 --url {two.url}\n")
        at = shell.until("ready", after=at)
        shell.press("\x1a")
        at = shell.until("Stopped[^\n]*\n.*shell> ", after=at)
        assert shell.raw.count(LEAVES_ALTERNATE) == 1
        shell.press("fg\n")
        shell.until("ready", after=at)
        assert shell.raw.count("\x1b[?1049h") == 2
        shell.press("q")
        shell.until("shell> ", after=at)
        assert shell.raw.count(LEAVES_ALTERNATE) == 2
    finally:
        shell.close()


def test_a_live_view_waits_for_a_server(terminal, model_folder: Path, place: Path) -> None:
    shown = terminal("--interval", "0.2", "--url", f"unix:{place}")
    at = shown.until("does not answer; it is asked every 0.2 s")
    server = start_at(place, model_folder / "affine.onnx")
    at = shown.until("ready", after=at)
    server.stop()
    at = shown.until("does not answer", after=at)
    shown.until("it answered last at", after=at)
    shown.press("q")
    assert shown.ended() == 0


def test_a_refusal_ends_a_live_view_with_its_reason(serve, model_folder: Path, terminal) -> None:
    server = serve("--require-key", models={"m": model_folder / "affine.onnx"})
    shown = terminal("--url", server.url)
    assert shown.ended() == 1
    assert shown.settings() == shown.before
    assert "penstock: " in shown.text().rpartition("\n")[0] or "unauthorized" in shown.text()


def test_no_colour_where_none_is_wanted(two: Server) -> None:
    shown = Terminal([*COMMAND, "--url", two.url], {**ENVIRONMENT, "NO_COLOR": "1"})
    try:
        shown.until("affine")
        shown.press("q")
        assert shown.ended() == 0
        assert not re.search(r"\x1b\[(?:\d+;)*3[0-7]m", shown.raw)
    finally:
        shown.close()


@pytest.mark.parametrize("arguments", [["--interval", "0"], ["--interval", "x"], ["--url", "ftp://x"], ["a", "b"]])
def test_wrong_usage(arguments: list[str]) -> None:
    result = watch("--once", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
