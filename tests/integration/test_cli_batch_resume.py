"""`penstock batch` is stopped in every way there is, and the same command goes on to the same bytes."""

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.asked_models import LOAN, serve_models
from tests.serving import Server
from tests.unit.test_cli import penstock

SECONDS = 300
ROWS = 16_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


def write_rows(folder: Path) -> Path:
    """Write rows of which every thousandth is none."""
    lines = (f'{{"age":{number},"income":{"7" * (1 + number % 6)}}}\n' for number in range(ROWS))
    file = folder / "rows.ndjson"
    file.write_text("".join(line if number % 1000 else "{{\n" for number, line in enumerate(lines)))
    return file


def command(server: str, folder: Path, output: str, *more: str) -> list[str]:
    rows = str(next(folder.glob("rows.*")))
    return [
        sys.executable,
        "-m",
        "penstock",
        "batch",
        "loan",
        rows,
        "-o",
        str(folder / output),
        "--url",
        server,
        *more,
    ]


def run(server: str, folder: Path, output: str, *more: str, status: int = 1) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        command(server, folder, output, *more), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert result.returncode == status, result
    assert "Traceback" not in result.stderr
    return result


@contextmanager
def under_way(server: str, folder: Path, output: str, bytes_min: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start a batch, and wait until it has written so many bytes more, or has ended."""
    partial = folder / f"{output}.partial"
    before = size(partial)
    process = subprocess.Popen(
        command(server, folder, output, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and size(partial) < before + bytes_min:
        assert time.monotonic() < deadline
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def noted(folder: Path, output: str) -> list[dict[str, int]]:
    """Return what the journal says, line by line."""
    lines = (folder / f"{output}.journal").read_text().splitlines(keepends=True)[1:]
    return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_when_noted(server: str, folder: Path, output: str, *more: str) -> None:
    """Start a batch, and kill it when its journal has noted answers."""
    with under_way(server, folder, output, 1, *more) as process:
        deadline = time.monotonic() + SECONDS
        while not any(line["rows"] for line in noted(folder, output)):
            assert time.monotonic() < deadline
        process.kill()


SLOW = pytest.mark.slow


@pytest.mark.parametrize("to", ["csv", *(pytest.param(form, marks=SLOW) for form in ("ndjson", "parquet", "arrow"))])
def test_killed_at_random_places(server: Server, tmp_path: Path, to: str) -> None:
    write_rows(tmp_path)
    # Small requests make it slow enough to be hit.
    slowly = ("--chunk-rows", "16", "--concurrency", "2", "--errors")
    run(server.url, tmp_path, f"whole.{to}", *slowly, str(tmp_path / "whole.errors"))
    dice, kills = random.Random(to), 0
    while kills < 6 and not (tmp_path / f"killed.{to}").exists():
        more = (*slowly, str(tmp_path / "killed.errors"))
        with under_way(server.url, tmp_path, f"killed.{to}", dice.randrange(1, 60_000), *more) as process:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            else:
                assert process.returncode == 1, process.communicate()
                assert (tmp_path / f"killed.{to}").exists(), process.communicate()
    if not (tmp_path / f"killed.{to}").exists():
        said = run(server.url, tmp_path, f"killed.{to}", *slowly, str(tmp_path / "killed.errors")).stderr
        assert "of them from before" in said
    assert kills >= 3
    assert (tmp_path / f"killed.{to}").read_bytes() == (tmp_path / f"whole.{to}").read_bytes()
    assert (tmp_path / "killed.errors").read_bytes() == (tmp_path / "whole.errors").read_bytes()
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"rows.ndjson", f"whole.{to}", f"killed.{to}", "whole.errors", "killed.errors"}


def test_what_is_noted_is_not_run_again(server: Server, tmp_path: Path) -> None:
    write_rows(tmp_path)
    kill_when_noted(server.url, tmp_path, "a.csv", "--chunk-rows", "16")
    rows = noted(tmp_path, "a.csv")[-1]["rows"]
    assert 0 < rows < ROWS
    done = json.loads(run(server.url, tmp_path, "a.csv", "--chunk-rows", "16", "--json").stdout)
    assert (done["kept"], done["rows"], done["failed"]) == (rows, ROWS, ROWS // 1000)


def test_ctrl_c_keeps_all_that_is_done(server: Server, tmp_path: Path) -> None:
    write_rows(tmp_path)
    with under_way(server.url, tmp_path, "a.csv", 50_000, "--chunk-rows", "16") as process:
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=SECONDS)
        assert (process.returncode, printed) == (130, "")
    rows = noted(tmp_path, "a.csv")[-1]["rows"]
    assert said == f"penstock: stopped behind {rows:,} rows; the same command goes on there\n"
    run(server.url, tmp_path, "a.csv", "--chunk-rows", "16")
    run(server.url, tmp_path, "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@pytest.fixture
def stopped(server: Server, tmp_path: Path) -> Path:
    """A folder with a batch that was killed, a.csv, of requests of 16 rows. Some of them are kept."""
    write_rows(tmp_path)
    kill_when_noted(server.url, tmp_path, "a.csv", "--chunk-rows", "16")
    return tmp_path


def test_input_that_has_changed_is_refused(server: Server, stopped: Path) -> None:
    with (stopped / "rows.ndjson").open("a") as rows:
        rows.write('{"age":1,"income":3}\n')
    said = run(server.url, stopped, "a.csv", "--chunk-rows", "16").stderr
    assert "rows.ndjson has changed since the batch began" in said
    assert "begin anew with --restart" in said
    run(server.url, stopped, "a.csv", "--chunk-rows", "16", "--restart")
    run(server.url, stopped, "b.csv")
    assert (stopped / "a.csv").read_bytes() == (stopped / "b.csv").read_bytes()


def test_input_of_the_same_size_and_time(server: Server, stopped: Path) -> None:
    rows = stopped / "rows.ndjson"
    known = rows.stat()
    rows.write_text(rows.read_text().replace('"age":1,', '"age":2,', 1))
    os.utime(rows, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert "has changed" in run(server.url, stopped, "a.csv", "--chunk-rows", "16").stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--chunk-rows", "17"], "another --chunk-rows (16)"),
        (["--chunk-rows", "16", "--version", "1"], "another --version (None)"),
        (["--chunk-rows", "16", "--to", "ndjson"], "another --to (csv)"),
        (["--chunk-rows", "16", "--errors", "e.ndjson"], "another --errors (None)"),
    ],
)
def test_another_batch_is_refused(server: Server, stopped: Path, more: list[str], said: str) -> None:
    assert said in run(server.url, stopped, "a.csv", *more).stderr
    assert noted(stopped, "a.csv"), "what was done is still there"


def test_output_that_was_tampered_with(server: Server, stopped: Path) -> None:
    os.truncate(stopped / "a.csv.partial", 10)
    assert "a.csv.partial has lost" in run(server.url, stopped, "a.csv", "--chunk-rows", "16").stderr
    (stopped / "a.csv.journal").write_text("something else\n")
    assert "is no journal of this release" in run(server.url, stopped, "a.csv", "--chunk-rows", "16").stderr
    run(server.url, stopped, "a.csv", "--restart")


def test_torn_line_of_the_journal_does_not_count(server: Server, stopped: Path) -> None:
    with (stopped / "a.csv.journal").open("a") as journal:
        journal.write('{"at": 99999999, "rows": 9')
    run(server.url, stopped, "a.csv", "--chunk-rows", "16")
    run(server.url, stopped, "b.csv")
    assert (stopped / "a.csv").read_bytes() == (stopped / "b.csv").read_bytes()


@pytest.mark.parametrize("to", ["csv", "arrow"])
def test_killed_before_anything_was_noted(server: Server, tmp_path: Path, to: str) -> None:
    write_rows(tmp_path)
    with under_way(server.url, tmp_path, f"a.{to}", 1, "--chunk-rows", "16") as process:
        process.kill()
    journal = tmp_path / f"a.{to}.journal"
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    run(server.url, tmp_path, f"a.{to}", "--chunk-rows", "16")
    run(server.url, tmp_path, f"b.{to}", "--chunk-rows", "16")
    assert (tmp_path / f"a.{to}").read_bytes() == (tmp_path / f"b.{to}").read_bytes()


def test_nothing_is_kept_that_would_have_to_go_with_the_rest(server: Server, tmp_path: Path) -> None:
    """Its input was mended, and it is another command: nothing is lost when it begins anew."""
    write_rows(tmp_path)
    errors = str(tmp_path / "a.errors")
    with under_way(server.url, tmp_path, "a.csv", 1, "--chunk-rows", "16", "--errors", errors) as process:
        process.kill()
    journal = tmp_path / "a.csv.journal"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:2]))
    (tmp_path / "rows.ndjson").write_text('{"age":1,"income":3}\n')
    run(server.url, tmp_path, "a.csv", "--chunk-rows", "32", status=0)
    assert (tmp_path / "a.csv").read_text() == "limit,terms.0,terms.1,error\n1.0,1,2,\n"
    assert {file.name for file in tmp_path.iterdir()} == {"rows.ndjson", "a.csv"}


def test_two_at_once(server: Server, stopped: Path) -> None:
    with (stopped / "a.csv.journal").open("rb") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert "another penstock batch is writing there" in run(server.url, stopped, "a.csv").stderr


def test_finished_but_not_named(server: Server, tmp_path: Path) -> None:
    """The machine went down between the last note and the new names, or between two of these."""
    write_rows(tmp_path)
    run(server.url, tmp_path, "b.parquet", "--chunk-rows", "16")
    with under_way(server.url, tmp_path, "a.parquet", 1, "--chunk-rows", "16") as process:
        process.kill()
    # A folder in the place of the finished file is what it cannot get rid of.
    (tmp_path / "a.parquet.whole").mkdir()
    assert "cannot write" in run(server.url, tmp_path, "a.parquet", "--chunk-rows", "16").stderr
    assert noted(tmp_path, "a.parquet")[-1]["done"]
    (tmp_path / "a.parquet.whole").rmdir()
    done = json.loads(run(server.url, tmp_path, "a.parquet", "--chunk-rows", "16", "--json").stdout)
    assert done["kept"] == ROWS
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert not (tmp_path / "a.parquet.partial").exists()


def test_full_disk(server: Server, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode()}")
    try:
        write_rows(tmp_path)
        said = run(server.url, tmp_path, "small/a.csv").stderr
        assert "a.csv.partial: No space left on device" in said
        kept = re.search(r"([\d,]+) rows are kept, and the same command goes on behind them", said)
        assert kept
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        done = json.loads(run(server.url, tmp_path, "small/a.csv", "--json").stdout)
        assert f"{done['kept']:,}" == kept[1]
        assert done["kept"] > 0
        run(server.url, tmp_path, "b.csv")
        assert (small / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    finally:
        subprocess.run(["umount", small], check=True)


def test_server_that_is_restarted(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("r")
    write_rows(folder)
    (folder / "loan.py").write_text(LOAN)
    where = ["--unix-socket", str(folder / "s")]
    running = Server.start([f"loan={folder / 'loan.py'}", *where], folder)
    try:
        url = f"unix:{folder / 's'}"
        run(url, folder, "b.csv")
        with under_way(url, folder, "a.csv", 50_000, "--chunk-rows", "16") as process:
            running.stop()
            running = Server.start([f"loan={folder / 'loan.py'}", *where], folder)
            said = process.communicate(timeout=SECONDS)[1]
            assert process.returncode == 1, said
        assert f"{ROWS:,} rows, {ROWS // 1000} of them failed" in said
        assert "asking again" in said
        assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    finally:
        running.stop()


def test_server_that_is_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("k")
    write_rows(folder)
    (folder / "loan.py").write_text(LOAN)
    where = ["--unix-socket", str(folder / "s")]
    running = Server.start([f"loan={folder / 'loan.py'}", *where], folder)
    try:
        url = f"unix:{folder / 's'}"
        with under_way(url, folder, "a.csv", 50_000, "--chunk-rows", "16") as process:
            running.process.kill()
            running.process.wait()
            running = Server.start([f"loan={folder / 'loan.py'}", *where], folder)
            assert process.wait(SECONDS) == 1
        run(url, folder, "b.csv")
        assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    finally:
        running.stop()


def test_the_version_that_it_began_with(tmp_path: Path) -> None:
    write_rows(tmp_path)
    running = Server.start(["--development"], tmp_path)

    def models(*arguments: str) -> None:
        done = penstock("models", *arguments, "--url", running.url)
        assert done.returncode == 0, done.stderr

    try:
        for factor in ("/ 3", "* 3"):
            (tmp_path / "loan.py").write_text(LOAN.replace("/ 3", factor))
            models("register", "loan", str(tmp_path / "loan.py"))
        models("promote", "loan", "1.0.0")
        kill_when_noted(running.url, tmp_path, "a.csv", "--chunk-rows", "16")
        models("promote", "loan", "1.1.0")
        models("load", "loan", "1.0.0")
        done = json.loads(run(running.url, tmp_path, "a.csv", "--chunk-rows", "16", "--json").stdout)
        assert done["version"] == "1.0.0"
        run(running.url, tmp_path, "b.csv", "--version", "1.0.0")
        assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()

        kill_when_noted(running.url, tmp_path, "c.csv", "--chunk-rows", "16")
        models("promote", "loan", "1.0.0")
        models("unload", "loan", "1.1.0")
        said = run(running.url, tmp_path, "c.csv", "--chunk-rows", "16").stderr
        assert "c.csv was begun with version 1.1.0: load it, or begin anew with --restart" in said
        models("load", "loan", "1.1.0")
        assert (
            json.loads(run(running.url, tmp_path, "c.csv", "--chunk-rows", "16", "--json").stdout)["version"] == "1.1.0"
        )
    finally:
        running.stop()


MEMORY = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_memory_is_bounded(server: Server, tmp_path: Path) -> None:
    with (tmp_path / "rows.ndjson").open("w") as file:
        for _ in range(100):
            file.write('{"age":41,"income":52000}\n' * 20_000)
    # Asked by a small process: the largest memory that a process had counts what it was forked from, too.
    asked = [sys.executable, "-c", MEMORY, *command(server.url, tmp_path, "a.ndjson")]
    status, memory = map(
        int, subprocess.run(asked, capture_output=True, check=True, timeout=3 * SECONDS).stdout.split()
    )
    assert status == 0
    assert size(tmp_path / "a.ndjson") > 90_000_000
    assert memory < 120_000  # KiB; Python with the SDK has 40,000
