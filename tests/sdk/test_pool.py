"""Connections are kept, shared by threads, not shared by processes, and never more than they may be."""

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from penstock_client import (
    AsyncClient,
    Client,
    ConnectError,
    ConnectionLostError,
    ProtocolError,
    Retries,
    TimedOutError,
)
from tests.sdk.asking import Ask
from tests.serving import Server

ROW = [1.0, 2.0, 3.0, 4.0]


def connections(server: Server) -> int:
    """How many connections of this process lead to the server."""
    mine = psutil.Process().net_connections("tcp")
    return sum(bool(one.raddr) and one.raddr.port == server.port and one.status == "ESTABLISHED" for one in mine)


def answer_of(client: Client, number: int) -> bool:
    return bool(client.predict("affine", [float(number), 0, 0, 0]).output[0] == 2.0 * number + 1)


def test_one_connection_serves_one_thread(server: Server) -> None:
    before = connections(server)
    with Client(server.url) as client:
        for number in range(20):
            assert answer_of(client, number)
        assert connections(server) == before + 1
    assert connections(server) == before


def test_threads_get_their_own_answers_over_a_bounded_number_of_connections(server: Server) -> None:
    before = connections(server)
    with Client(server.url, connections_max=4) as client, ThreadPoolExecutor(16) as threads:
        assert all(threads.map(lambda number: answer_of(client, number), range(600)))
        assert connections(server) <= before + 4


def test_tasks_get_their_own_answers_over_a_bounded_number_of_connections(server: Server) -> None:
    async def main() -> int:
        async with AsyncClient(server.url, connections_max=4) as client:
            answers = await asyncio.gather(*(client.predict("affine", [float(n), 0, 0, 0]) for n in range(600)))
            assert [answer.output[0] for answer in answers] == [2.0 * n + 1 for n in range(600)]
            return connections(server)

    before = connections(server)
    assert asyncio.run(main()) <= before + 4


def test_another_loop_than_asyncios(server: Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        async with AsyncClient(server.url, connections_max=8) as client:
            answers = await asyncio.gather(*(client.predict("affine", [float(n), 0, 0, 0]) for n in range(200)))
            assert [answer.output[0] for answer in answers] == [2.0 * n + 1 for n in range(200)]
            batch = await client.predict_batch("affine", np.ones((60_000, 4)), chunk_rows=60_000)
            assert (batch.outputs["y"] == 3).all()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


def awaited_in_child(client: AsyncClient, results: Any) -> None:
    try:
        results.put(asyncio.run(client.predict("affine", ROW)).output)
    except Exception as error:  # told to the parent, which fails then
        results.put(repr(error))


def test_a_fork_has_loops_of_its_own(server: Server) -> None:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()

    async def main() -> list[float]:
        async with AsyncClient(server.url) as client:
            await client.predict("affine", ROW)
            child = fork.Process(target=in_a_thread, args=(client, results))
            child.start()
            loop = asyncio.get_running_loop()
            assert await loop.run_in_executor(None, results.get, True, 300) == [3.0, 5.0, 7.0, 9.0]
            await loop.run_in_executor(None, child.join, 300)
            return list((await client.predict("affine", ROW)).output)

    assert asyncio.run(main()) == [3.0, 5.0, 7.0, 9.0]


def in_a_thread(client: AsyncClient, results: Any) -> None:
    """The child of a loop is in it, as far as asyncio knows, so that another needs another thread."""
    thread = threading.Thread(target=awaited_in_child, args=(client, results))
    thread.start()
    thread.join()


def test_one_async_client_in_one_loop_after_the_other(server: Server) -> None:
    client = AsyncClient(server.url)

    async def once() -> list[float]:
        answer = await client.predict("affine", ROW)
        await client.close()
        return list(answer.output)

    assert [asyncio.run(once()) for _ in range(3)] == [[3.0, 5.0, 7.0, 9.0]] * 3


def test_a_cancelled_call_costs_no_other_call_anything(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, connections_max=2) as client:
            for _ in range(30):
                calls = [asyncio.create_task(client.predict("affine", ROW)) for _ in range(6)]
                await asyncio.sleep(0)
                for call in calls[::2]:
                    call.cancel()
                ended = await asyncio.gather(*calls, return_exceptions=True)
                assert all(isinstance(one, asyncio.CancelledError) for one in ended[::2])
                assert all(one.output == [3.0, 5.0, 7.0, 9.0] for one in ended[1::2])  # type: ignore[union-attr]

    asyncio.run(main())


def in_child(client: Client, results: Any) -> None:
    try:
        results.put([answer_of(client, number) for number in range(20)])
    except Exception as error:  # told to the parent, which fails then
        results.put(repr(error))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_does_not_share_connections(server: Server) -> None:
    fork = multiprocessing.get_context("fork")
    with Client(server.url, connections_max=3) as client:
        assert answer_of(client, 1)
        ended = threading.Event()

        def busy() -> None:
            while not ended.is_set():
                assert answer_of(client, 7)

        with ThreadPoolExecutor(4) as threads:
            running = [threads.submit(busy) for _ in range(4)]
            results = fork.Queue()
            children = [fork.Process(target=in_child, args=(client, results)) for _ in range(4)]
            for child in children:
                child.start()
            answers = [results.get(timeout=300) for _ in children]
            for child in children:
                child.join(300)
            ended.set()
            assert all(one.exception(60) is None for one in running)
        assert answers == [[True] * 20] * 4
        assert answer_of(client, 2)


GEVENT = """
{imports}
import gevent
client = Client({url!r}, connections_max=3)
def work(number):
    return client.predict("affine", [float(number), 0, 0, 0]).output[0]
jobs = [gevent.spawn(work, number) for number in range(60)]
spun = 0
def spin():
    global spun
    while not all(job.ready() for job in jobs):
        spun += 1
        gevent.sleep(0)
gevent.joinall([*jobs, gevent.spawn(spin)], timeout=300)
assert [job.value for job in jobs] == [2.0 * number + 1 for number in range(60)], [job.value for job in jobs]
assert spun > {spun}, spun
# Native threads beside the greenlets: connections do not change hands between hubs.
pool = gevent.get_hub().threadpool
assert [pool.spawn(work, number).get() for number in range(10)] == [2.0 * number + 1 for number in range(10)]
assert work(5) == 11.0
with gevent.Timeout(0, False):
    work(6)
assert work(7) == 15.0
print("done")
"""
PATCH, IMPORT = "from gevent import monkey; monkey.patch_all()", "from penstock_client import Client"


@pytest.mark.parametrize(
    ("imports", "spun"),
    [(f"{PATCH}\n{IMPORT}", 2), (f"{IMPORT}\n{PATCH}", 2), (IMPORT, -1)],
    ids=["patched first", "patched late", "not patched"],
)
def test_gevent(server: Server, imports: str, spun: int) -> None:
    script = GEVENT.format(imports=imports, url=server.url, spun=spun)
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False, env=os.environ
    )
    assert result.stdout == "done\n", result.stderr


def test_a_unix_socket(serve: Callable[..., Server], model_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    serve("--unix-socket", str(path), models={"affine": model_folder / "affine.onnx"})
    with Client(f"unix:{path}") as client:
        assert client.predict("affine", ROW).output == [3.0, 5.0, 7.0, 9.0]
    with Client(f"unix://{path}") as client:
        assert client.predict("affine", ROW).output == [3.0, 5.0, 7.0, 9.0]

    async def main() -> Any:
        async with AsyncClient(f"unix:{path}") as client:
            return (await client.predict("affine", ROW)).output

    assert asyncio.run(main()) == [3.0, 5.0, 7.0, 9.0]


def test_a_server_that_restarts_is_asked_again(
    serve: Callable[..., Server], model_folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "p.sock"
    first = Server.start([f"affine={model_folder / 'affine.onnx'}", "--unix-socket", str(path)], tmp_path)
    with Client(f"unix:{path}") as client:
        assert answer_of(client, 1)
        first.stop()
        serve("--unix-socket", str(path), models={"affine": model_folder / "affine.onnx"})
        # The old connection is at its end, which is seen before anything is sent on it.
        assert answer_of(client, 2)


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_silence_ends_with_the_calls_time(ask: Ask, silent: str) -> None:
    for timeout_s in (0.2, 2.0, 20.0):  # on a busy machine it may be over before anything is sent
        with pytest.raises(TimedOutError) as caught:
            ask("predict", "m", ROW, timeout_s=timeout_s, client={"url": silent})
        if caught.value.may_have_run:
            break
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.may_have_run
    assert caught.value.request_id
    assert caught.value.attempts == 1


def test_waiting_for_a_connection_ends_with_the_calls_time() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        Client(f"http://127.0.0.1:{listening.getsockname()[1]}", connections_max=1) as client,
        ThreadPoolExecutor(3) as threads,
    ):
        first = threads.submit(client.predict, "m", ROW)
        with listening.accept()[0]:
            waiting = [threads.submit(client.predict, "m", ROW, timeout_s=0.2) for _ in range(2)]
            errors = [call.exception() for call in waiting]
        assert isinstance(first.exception(), ConnectionLostError)
    # Those that waited for a connection certainly were not run.
    assert all(isinstance(error, TimedOutError) and not error.may_have_run for error in errors)


def test_awaiting_a_connection_ends_with_the_calls_time() -> None:
    async def main(listening: socket.socket) -> list[Any]:
        loop = asyncio.get_running_loop()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with AsyncClient(url, connections_max=1) as client:
            first = asyncio.ensure_future(client.predict("m", ROW))
            connection, _ = await loop.run_in_executor(None, listening.accept)
            calls = (client.predict("m", ROW, timeout_s=0.2) for _ in range(2))
            errors = await asyncio.gather(*calls, return_exceptions=True)
            connection.close()
            return [*errors, *await asyncio.gather(first, return_exceptions=True)]

    with socket.create_server(("127.0.0.1", 0)) as listening:
        *errors, first = asyncio.run(main(listening))
    assert all(isinstance(error, TimedOutError) and not error.may_have_run for error in errors)
    assert isinstance(first, ConnectionLostError)


def test_nobody_there(ask: Ask) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ConnectError, match="penstock serve") as caught:
            ask("predict", "m", ROW, client={"url": url, "retries": Retries(attempts_max=3, backoff_s=0.001)})
    assert isinstance(caught.value, ConnectionError)
    assert not caught.value.may_have_run
    assert caught.value.attempts == 3


def test_ctrl_c_leaves_a_client_that_works(server: Server, silent: str) -> None:
    with Client(silent, timeout_s=30) as client:
        main_thread = threading.main_thread().ident
        assert main_thread is not None
        timer = threading.Timer(0.2, signal.pthread_kill, [main_thread, signal.SIGINT])

        def asked() -> None:
            timer.start()
            client.predict("m", ROW)

        with pytest.raises(KeyboardInterrupt):
            asked()
        timer.join()
    with Client(server.url) as client:
        assert answer_of(client, 1)


def test_a_port_that_speaks_something_else(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def speak() -> None:
            for said in (b"SSH-2.0-x\r\n", b""):
                accepted, _ = listening.accept()
                with accepted:
                    accepted.recv(4096)
                    accepted.sendall(said)

        with ThreadPoolExecutor(1) as threads:
            speaking = threads.submit(speak)
            with pytest.raises(ProtocolError, match="no Penstock"):
                ask("predict", "m", ROW, client={"url": url})
            with pytest.raises(ConnectionLostError) as caught:
                ask("predict", "m", ROW, client={"url": url})
            assert caught.value.may_have_run
            speaking.result()
