"""The second level of the result cache: real servers on a real Redis, which comes, goes, hangs and lies."""

import itertools
import json
import os
import re
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from bench.wire import Wire
from tests.documents import ROOT, blocks_of
from tests.integration.noting import RECEIPT, Noting, answer, ask
from tests.integration.supervised import until
from tests.redis_server import Redis, redis_server
from tests.serving import Server

__all__ = ["redis_server"]

# No lookup of an idle Redis takes that long, on a machine that does much else.
PATIENT_MS = "10000"


@pytest.fixture
def noting(tmp_path: Path) -> Noting:
    folder = tmp_path / "model"
    folder.mkdir()
    return Noting(folder, runs=tmp_path / "runs")


@pytest.fixture
def share(tmp_path: Path, noting: Noting) -> Iterator[Callable[..., Server]]:
    """Start a server that shares the answers of the model: share(url, NAME="value" of the environment)."""
    with ExitStack() as running:

        def start(url: str, model: Path = noting.path, **environment: str) -> Server:
            settings = {
                "PENSTOCK_CACHE_TTL_S": "3600",
                "PENSTOCK_CACHE_SHARED": "true",
                "PENSTOCK_CACHE_REDIS": url,
                "PENSTOCK_CACHE_REDIS_TIMEOUT_MS": PATIENT_MS,
            }
            server = Server.start([f"m={model}"], tmp_path, settings | environment)
            running.callback(server.stop)
            noting.forget()
            return server

        yield start


def metric(server: Server, name: str) -> int:
    text = server.request("GET", "/metrics").body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"penstock_cache_redis_{name} ")]
    return int(float(line.split()[1]))


def up(server: Server) -> None:
    until(lambda: metric(server, "up") == 1, "Redis is asked")


def down(server: Server) -> None:
    until(lambda: metric(server, "up") == 0, "Redis is asked no more")


def written(server: Server, count: int) -> None:
    until(lambda: metric(server, "writes_total") == count, f"{count} answers are in Redis")


def test_servers_share_answers(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire], tmp_path: Path
) -> None:
    first, second = share(redis_server.url), share(redis_server.socket_url)
    up(first)
    up(second)
    assert answer(ask(connect(first), 2)) == 6
    written(first, 1)
    reply = ask(connect(second), 2, **RECEIPT)
    assert answer(reply) == 6
    assert reply.headers["x-penstock-cache"] == "hit" and int(reply.headers["age"]) >= 0
    assert noting.runs() == ["2"]
    assert (metric(second, "hits_total"), metric(second, "misses_total")) == (1, 0)
    # From here on it knows it itself.
    assert answer(ask(connect(second), 2)) == 6
    assert metric(second, "hits_total") == 1
    # A server that starts finds all of it, wherever the model lies.
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.copy(noting.path, moved / "other.py")
    third = share(redis_server.url, moved / "other.py")
    up(third)
    assert answer(ask(connect(third), 2)) == 6
    assert noting.runs() == []
    # Requests may say that they want none of it.
    assert answer(ask(connect(third), 2, Cache_Control="no-cache")) == 6
    assert answer(ask(connect(third), 9, Cache_Control="no-store")) == 27
    assert noting.runs() == ["2", "9"] and len(redis_server.names()) == 1


def test_rows_of_many_are_shared(redis_server: Redis, share: Callable[..., Server], noting: Noting) -> None:
    def rows(server: Server, last: int) -> None:
        inputs = np.zeros((last, 4), np.float32)
        inputs[:, 0] = np.arange(last)
        raw = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
        reply = server.request("POST", "/predict", inputs.tobytes(), raw)
        assert np.array_equal(np.frombuffer(reply.body, np.float32).reshape(-1, 4), inputs * 3)

    first, second = share(redis_server.url), share(redis_server.url)
    up(first)
    up(second)
    rows(first, 900)
    written(first, 900)
    noting.forget()
    rows(second, 1000)
    assert sorted(map(float, noting.runs())) == list(range(900, 1000))
    assert (metric(second, "hits_total"), metric(second, "misses_total")) == (900, 100)
    noting.forget()
    rows(second, 1000)
    assert noting.runs() == []


def test_other_content_is_another_version(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    first = share(redis_server.url)
    up(first)
    assert answer(ask(connect(first), 2)) == 6
    written(first, 1)
    # The same name, version and path, and other content.
    noting.path.write_text(noting.path.read_text().replace("* 3", "* 5"))
    second = share(redis_server.url)
    up(second)
    assert answer(ask(connect(second), 2)) == 10
    assert answer(ask(connect(first), 2)) == 6
    written(second, 1)
    assert len(redis_server.names()) == 2


def test_answers_grow_old(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    first = share(redis_server.url)
    up(first)
    answer(ask(connect(first), 2))
    written(first, 1)
    (name,) = redis_server.names()
    with redis_server.client() as client:
        assert 3_000_000 < client.pttl(name) <= 3_600_000
    # What is older than a server may give is not given, though it lies there.
    second = share(redis_server.url, PENSTOCK_CACHE_TTL_S="1")
    up(second)
    until(lambda: age_of(redis_server, name) > 1.0, "a second is over")
    assert answer(ask(connect(second), 2)) == 6
    assert noting.runs() == ["2"] and metric(second, "misses_total") == 1


def age_of(redis_server: Redis, name: bytes) -> float:
    with redis_server.client() as client:
        return 3600 - client.pttl(name) / 1000


@pytest.mark.parametrize("junk", ["empty", "short", "long", "huge", "changed", "of another", "list"])
def test_junk_is_not_served(
    junk: str, redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    first, second = share(redis_server.url), share(redis_server.url)
    up(first)
    up(second)
    answer(ask(connect(first), 3))
    written(first, 1)
    (other,) = redis_server.names()
    answer(ask(connect(first), 2))
    written(first, 2)
    (name,) = [each for each in redis_server.names() if each != other]
    with redis_server.client() as client:
        value, others = client.get(name), client.get(other)
        client.delete(name)
        match junk:
            case "empty":
                client.set(name, b"")
            case "short":
                client.set(name, value[:-1])
            case "long":
                client.set(name, value + b"\0")
            case "huge":
                client.set(name, b"x" * (64 << 20))
            case "changed":
                client.set(name, value[:-1] + bytes([value[-1] ^ 1]))
            case "of another":
                client.set(name, others)
            case "list":
                client.rpush(name, value)
    noting.forget()
    assert answer(ask(connect(second), 2)) == 6
    assert noting.runs() == ["2"] and metric(second, "hits_total") == 0 and metric(second, "up") == 1
    assert metric(second, "invalid_total") == (0 if junk in ("empty", "list") else 1)
    # What has run takes its place, unless it is of another kind.
    written(second, 1)
    with redis_server.client() as client:
        assert client.type(name) == b"string" and len(client.get(name)) == len(value)


def test_redis_that_hangs_costs_one_bound(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    server = share(redis_server.url, PENSTOCK_CACHE_REDIS_TIMEOUT_MS="200")
    wire = connect(server)
    up(server)
    redis_server.send(signal.SIGSTOP)
    values = iter(range(1_000_000))
    until(lambda: answer(ask(wire, next(values))) >= 0 and metric(server, "up") == 0, "Redis is found to hang")
    asked, lookups = next(values), metric(server, "timeouts_total") + metric(server, "failures_total")
    assert lookups >= 1
    before = metric(server, "skipped_total")
    noting.forget()
    for value in range(asked, asked + 50):  # none of them waits
        answer(ask(wire, value))
    assert metric(server, "skipped_total") == before + 50
    assert metric(server, "timeouts_total") + metric(server, "failures_total") == lookups
    assert noting.runs() == [str(value) for value in range(asked, asked + 50)]
    redis_server.send(signal.SIGCONT)
    up(server)


@pytest.mark.parametrize("redis_server", ["right"], indirect=True)
def test_password(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    wrong = share(redis_server.url, REDISCLI_AUTH="wr0ng-s3cret")
    until(lambda: b"Redis does not answer" in wrong.log.read_bytes(), "it is said")
    assert answer(ask(connect(wrong), 2)) == 6
    assert metric(wrong, "up") == 0 and redis_server.names() == []
    in_url = share(redis_server.url.replace("//", "//:right@"))
    by_variable = share(redis_server.url, REDISCLI_AUTH="right")
    up(in_url)
    up(by_variable)
    noting.forget()
    assert answer(ask(connect(in_url), 2)) == 6
    written(in_url, 1)
    assert answer(ask(connect(by_variable), 2)) == 6
    assert noting.runs() == ["2"]
    log = wrong.log.read_bytes()
    assert b"wr0ng-s3cret" not in log and b":right@" not in log


def test_rights_of_the_document_are_enough(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    (line,) = re.findall(r"^ACL SETUSER .*$", (ROOT / "docs/caching.md").read_text(), re.MULTILINE)
    with redis_server.client() as client:
        client.execute_command(*line.split())
    url = redis_server.url.replace("//", "//penstock@")
    first, second = share(url, REDISCLI_AUTH="PASSWORD"), share(url, REDISCLI_AUTH="PASSWORD")
    up(first)
    up(second)
    assert answer(ask(connect(first), 2)) == 6
    written(first, 1)
    assert answer(ask(connect(second), 2)) == 6
    assert noting.runs() == ["2"]


def test_settings_of_the_document(noting: Noting, tmp_path: Path, redis_server: Redis) -> None:
    blocks = [block.text for block in blocks_of(ROOT / "docs/caching.md") if block.language == "toml"]
    assert len(blocks) == 2
    for block in blocks:
        file = tmp_path / "penstock.toml"
        settings = block.replace("models/digits.onnx", str(noting.path))
        file.write_text(settings.replace("redis://cache.example:6379/0", redis_server.url))
        server = Server.start(["--config", str(file)], tmp_path)
        try:
            (version,) = server.request("GET", "/models/digits").json()["versions"]
            assert version["cache"]["ttl_s"] == 3600
        finally:
            server.stop()


def test_redis_may_die_and_come_back_under_load(
    redis_server: Redis, share: Callable[..., Server], connect: Callable[..., Wire]
) -> None:
    server = share(redis_server.url, PENSTOCK_CACHE_REDIS_TIMEOUT_MS="100")
    up(server)
    done = threading.Event()
    counts = [0] * 4
    failures: list[str] = []

    def load(number: int) -> None:
        wire = connect(server)
        while not done.is_set():
            # Half of them new ones.
            value = counts[number] * 4 + number if counts[number] % 2 else counts[number] // 8
            reply = ask(wire, value)
            if reply.status != 200 or reply.json()["outputs"]["y"][0] != 3 * value:
                failures.append(f"{value}: {reply.status} {reply.body[:200]!r}")
                return
            counts[number] += 1

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            asked = sum(counts)
            until(lambda asked=asked: sum(counts) > asked + 200, "some requests with Redis")  # type: ignore[misc]
            redis_server.kill()
            down(server)
            asked = sum(counts)
            until(lambda asked=asked: sum(counts) > asked + 200, "some requests without")  # type: ignore[misc]
            redis_server.start()
            up(server)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert metric(server, "writes_total") > 0


def test_its_process_may_die(
    redis_server: Redis, share: Callable[..., Server], noting: Noting, connect: Callable[..., Wire]
) -> None:
    server = share(redis_server.url)
    up(server)

    def processes() -> set[int]:
        found = set()
        for child in psutil.Process(server.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # it ends meanwhile
                if "penstock.cache" in child.cmdline():
                    found.add(child.pid)
        return found

    (process,) = before = processes()
    os.kill(process, signal.SIGKILL)
    wire, numbers = connect(server), itertools.count(2)
    assert answer(ask(wire, 2)) == 6  # whether it is noticed yet or not
    until(lambda: bool(processes() - before), "it is started again")
    until(
        lambda: answer(ask(wire, next(numbers))) > 0 and metric(server, "writes_total") > 1, "answers are shared again"
    )


def test_off_unless_asked_for(redis_server: Redis, share: Callable[..., Server], connect: Callable[..., Wire]) -> None:
    server = share(redis_server.url, PENSTOCK_CACHE_SHARED="false")
    up(server)
    answer(ask(connect(server), 2))
    assert metric(server, "writes_total") == 0 and metric(server, "misses_total") == 0
    assert redis_server.names() == []


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"cache_redis": "http://:s3cret@host"}, "cache_redis is no URL of a Redis"),
        ({}, "has cache_shared, and there is nowhere to share its answers"),
    ],
)
def test_bad_settings(settings: dict[str, str], why: str, noting: Noting, tmp_path: Path) -> None:
    server = "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    file = tmp_path / "penstock.toml"
    file.write_text(f'[server]\n{server}\n[models.m]\npath = "{noting.path}"\ncache_ttl_s = 9\ncache_shared = true\n')
    with pytest.raises(AssertionError, match=why) as refused:
        Server.start(["--config", str(file)], tmp_path)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://penstock:secret/1@localhost/0", "redis://localhost/0?passwort=secret"])
def test_what_the_library_does_not_take_is_not_quoted(url: str) -> None:
    store = pytest.importorskip("penstock.cache.store", exc_type=ImportError)
    with pytest.raises(store.StoreError) as caught:
        store.Store(url, None, 1.0)
    shown = "".join(traceback.format_exception(caught.value))
    assert "secret" not in shown and "passwort" not in shown
