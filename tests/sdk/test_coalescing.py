"""Rows that are predicted at the same time go together, and each caller gets its own answer."""

import asyncio
import dataclasses
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from penstock_client import ArgumentError, AsyncClient, Client, ConnectError, Retries
from penstock_client.gathering import _kinds_of
from penstock_client.problems import InvalidInputError, ModelError, ModelNotFoundError
from tests.serving import Server

# Rows that are to go together do: whoever is first waits so long, or until there are as many as there will be.
LONG_S = 30.0


def row(number: float) -> list[float]:
    return [number, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("arrays", [False, True])
def test_threads(server: Server, arrays: bool) -> None:
    with Client(server.url, connections_max=1) as client, ThreadPoolExecutor(32) as threads:
        together = client.coalescer("affine", rows_max=8, delay_s=LONG_S)

        def one(number: int) -> float:
            inputs = np.float32(row(number)) if arrays else row(number)
            answer = together.predict(inputs)
            assert (answer.model, answer.version) == ("affine", "1")
            return float(answer.output[0])

        assert list(threads.map(one, range(64))) == [2.0 * number + 1 for number in range(64)]


@pytest.mark.parametrize("arrays", [False, True])
def test_tasks(server: Server, arrays: bool) -> None:
    async def main() -> list[float]:
        async with AsyncClient(server.url, connections_max=1) as client:
            together = client.coalescer("affine", rows_max=8, delay_s=LONG_S)

            async def one(number: int) -> float:
                return float((await together.predict(np.float32(row(number)) if arrays else row(number))).output[0])

            return await asyncio.gather(*(one(number) for number in range(64)))

    assert asyncio.run(main()) == [2.0 * number + 1 for number in range(64)]


def test_a_lone_row_waits_no_longer_than_said(server: Server) -> None:
    with Client(server.url) as client:
        assert client.coalescer("affine", rows_max=100, delay_s=0.001).predict(row(1)).output[0] == 3.0

    async def main() -> float:
        async with AsyncClient(server.url) as client:
            return float((await client.coalescer("affine", delay_s=0).predict(row(1))).output[0])

    assert asyncio.run(main()) == 3.0


def test_named_arrays(server: Server) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(4) as threads:
        together = client.coalescer("pair", rows_max=4, delay_s=LONG_S)
        rows = [{"a": np.full((2, 3), n, float), "b": np.full(5, n)} for n in range(4)]
        assert [answer.outputs["total"] for answer in threads.map(together.predict, rows)] == [0, 5, 10, 15]


def test_a_row_that_fails_fails_alone(server: Server) -> None:
    rows = [row(1), row(-1), [1.0], row(4)]
    with Client(server.url) as client, ThreadPoolExecutor(4) as threads:
        together = client.coalescer("echo", rows_max=4, delay_s=LONG_S)
        errors = [call.exception() for call in [threads.submit(together.predict, one) for one in rows]]
    assert [type(error) for error in errors] == [type(None), ModelError, InvalidInputError, type(None)]


def test_what_befalls_the_request_befalls_every_row(server: Server) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(2) as threads:
        together = client.coalescer("nope", rows_max=2, delay_s=LONG_S)
        errors = [call.exception() for call in [threads.submit(together.predict, row(n)) for n in range(2)]]
    assert all(isinstance(error, ModelNotFoundError) and error.request_id for error in errors)
    assert errors[0] is not errors[1]

    async def main() -> list[object]:
        async with AsyncClient("http://127.0.0.1:1", retries=Retries(1)) as client:
            together = client.coalescer("m", rows_max=3, delay_s=LONG_S)
            return await asyncio.gather(*(together.predict(row(n)) for n in range(3)), return_exceptions=True)

    assert all(isinstance(error, ConnectError) for error in asyncio.run(main()))


def test_a_task_that_is_cancelled_leaves_the_others_their_answers(server: Server) -> None:
    async def main() -> None:
        async with AsyncClient(server.url) as client:
            together = client.coalescer("affine", rows_max=3, delay_s=LONG_S)
            calls = [asyncio.ensure_future(together.predict(row(n))) for n in range(2)]
            await asyncio.sleep(0)
            calls[0].cancel()
            assert (await together.predict(row(2))).output[0] == 5.0
            assert (await calls[1]).output[0] == 3.0
            assert calls[0].cancelled()

    asyncio.run(main())


def test_rows_of_one_request_at_most(server: Server) -> None:
    with Client(server.url) as client:
        together = client.coalescer("affine", rows_max=1, delay_s=LONG_S)
        assert together.predict(row(3)).output[0] == 7.0
        barrier = threading.Barrier(4)

        def one(number: int) -> float:
            barrier.wait()
            return float(together.predict(row(number)).output[0])

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(one, range(4))) == [1.0, 3.0, 5.0, 7.0]
        with pytest.raises(ArgumentError):
            client.coalescer("affine", rows_max=0)


def test_no_number_becomes_another_because_of_a_neighbour(server: Server) -> None:
    # Put together, NumPy would make both floats, and the first one less.
    assert list(_kinds_of([np.array([2**53 + 1]), np.array([0.5]), [1], np.array([7])])) == [[0, 3], [1], [2]]
    rows = [row(1), np.array(row(2)), np.array(row(3), np.int64)]
    with Client(server.url) as client, ThreadPoolExecutor(3) as threads:
        together = client.coalescer("affine", rows_max=3, delay_s=LONG_S)
        answers = [answer.output for answer in threads.map(together.predict, rows)]
    assert [answer[0] for answer in answers] == [3.0, 5.0, 7.0]
    # Each as its own call would have answered it, whoever called at the same time.
    assert [type(answer) for answer in answers] == [list, np.ndarray, np.ndarray]


@pytest.mark.parametrize("bad", [object(), np.array(list("abcd")), np.ma.masked_array(row(1), mask=[1, 0, 0, 0])])
@pytest.mark.parametrize("good", [row(1), np.array(row(1))], ids=["plain", "array"])
def test_a_row_that_cannot_be_sent_fails_alone(server: Server, bad: object, good: object) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(2) as threads:
        together = client.coalescer("affine", rows_max=2, delay_s=LONG_S)
        calls = [threads.submit(together.predict, one) for one in (bad, good)]
        assert isinstance(calls[0].exception(), ArgumentError)
        assert calls[1].result().output[0] == 3.0


def test_a_fork_gathers_anew(server: Server) -> None:
    with Client(server.url) as client, ThreadPoolExecutor(1) as threads:
        together = client.coalescer("affine", rows_max=2, delay_s=LONG_S)
        waiting = threads.submit(together.predict, row(1))
        while together._open is None:
            threading.Event().wait(0.001)
        child = os.fork()
        if child == 0:
            signal.alarm(300)  # a child that waits for its parent's threads waits for ever
            together._gathers = dataclasses.replace(together._gathers, rows_max=1)
            os._exit(0 if together.predict(row(2)).output[0] == 5.0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert together.predict(row(3)).output[0] == 7.0
        assert waiting.result().output[0] == 3.0
