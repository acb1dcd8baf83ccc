"""What the Python SDK costs its caller: CPU time of a call and calls in a second, beside what it could be made of.

All of them send the same bytes to one server, in turn, from one process. The bare ones neither encode the row nor read
the answer's JSON, the SDK does.
"""

from __future__ import annotations

import asyncio
import http.client
import importlib
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, closing
from dataclasses import dataclass
from typing import Any

import aiohttp

from penstock_client import AsyncClient, Client

__all__ = [
    "ClientTime",
    "Ratios",
    "time_async",
    "time_blocking",
    "time_call",
    "times_table",
]

MODEL = "small"
ROW = [0.5, 1.5, 2.5, 3.5]
BODY = b'{"model":"small","inputs":[0.5,1.5,2.5,3.5]}'
# What the SDK sends; ids of the same length, and a timeout that is as long.
FIELDS = {
    "User-Agent": "penstock-client/0.1.0 Python/3.11.7",
    "Accept": "application/json",
    "Content-Type": "application/json",
    "X-Request-Id": "0123456789abcdef01-1234",
    "X-Request-Timeout-Ms": "60000",
}
WARM_UP = 50


@dataclass(frozen=True, slots=True)
class ClientTime:
    """One client in one round."""

    name: str
    cpu_us: float
    calls_per_second: float


@dataclass(frozen=True, slots=True)
class Ratios:
    """Medians over the rounds of the SDK beside the bare library: CPU of a call, calls in a second."""

    cpu: float
    throughput: float

    @classmethod
    def of(cls, rounds: list[list[ClientTime]], name: str, bare: str) -> Ratios:
        """Compare within each round, since rounds differ by what else the machine does."""
        both = [{one.name: one for one in times} for times in rounds]
        return cls(
            statistics.median(times[name].cpu_us / times[bare].cpu_us for times in both),
            statistics.median(times[name].calls_per_second / times[bare].calls_per_second for times in both),
        )


def time_blocking(port: int, rounds: int, calls: int) -> list[list[ClientTime]]:
    """Call one after the other, from one thread."""
    with ExitStack() as open_clients:
        clients = dict(_blocking(port, open_clients))
        found = []
        for number in range(rounds):
            names = list(clients)[number % len(clients) :] + list(clients)[: number % len(clients)]
            found.append([time_call(name, clients[name], calls) for name in names])
        return found


def time_call(name: str, call: Callable[[], object], calls: int, warm_up: int = WARM_UP) -> ClientTime:
    """Time calls that follow each other."""
    for _ in range(warm_up):
        call()
    cpu, clock = time.process_time(), time.perf_counter()
    for _ in range(calls):
        call()
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return ClientTime(name, cpu / calls * 1e6, calls / clock)


def _blocking(port: int, stack: ExitStack) -> Iterator[tuple[str, Callable[[], object]]]:
    url = f"http://127.0.0.1:{port}"
    bare = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", port)))

    def with_http_client() -> bytes:
        bare.request("POST", "/predict", BODY, FIELDS)
        body: bytes = bare.getresponse().read()
        return body

    yield "http.client", with_http_client
    client = stack.enter_context(Client(url))
    yield "penstock_client", lambda: client.predict(MODEL, ROW).outputs["y"]
    numpy = _installed("numpy")
    if numpy is not None:
        array = numpy.array(ROW, "float32")
        yield "penstock_client, NumPy", lambda: client.predict(MODEL, array).outputs["y"]
    urllib3 = _installed("urllib3")
    if urllib3 is not None:
        pool = stack.enter_context(closing(urllib3.HTTPConnectionPool("127.0.0.1", port)))
        yield "urllib3", lambda: pool.request("POST", "/predict", body=BODY, headers=FIELDS).data
    httpx = _installed("httpx")
    if httpx is not None:
        other = stack.enter_context(httpx.Client(base_url=url))
        yield "httpx", lambda: other.post("/predict", content=BODY, headers=FIELDS).content


def time_async(port: int, rounds: int, calls: int, at_once: int) -> list[list[ClientTime]]:
    """Call from `at_once` tasks of one loop."""

    async def main() -> list[list[ClientTime]]:
        async with AsyncExitStack() as open_clients:
            clients = await _awaited(port, at_once, open_clients)
            found = []
            for number in range(rounds):
                names = list(clients)[number % len(clients) :] + list(clients)[: number % len(clients)]
                found.append([await _time_tasks(name, clients[name], calls, at_once) for name in names])
            return found

    return asyncio.run(main())


async def _time_tasks(name: str, call: Callable[[], Awaitable[object]], calls: int, at_once: int) -> ClientTime:
    async def work(count: int) -> None:
        for _ in range(count):
            await call()

    await asyncio.gather(*(work(2) for _ in range(at_once)))
    each = max(calls // at_once, 1)
    cpu, clock = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work(each) for _ in range(at_once)))
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    return ClientTime(name, cpu / (each * at_once) * 1e6, each * at_once / clock)


async def _awaited(port: int, at_once: int, stack: AsyncExitStack) -> Mapping[str, Callable[[], Awaitable[object]]]:
    url = f"http://127.0.0.1:{port}"
    streams = _Streams(port)
    stack.callback(streams.close)
    client = await stack.enter_async_context(AsyncClient(url, connections_max=at_once))

    async def with_sdk() -> Any:
        return (await client.predict(MODEL, ROW)).outputs["y"]

    clients: dict[str, Callable[[], Awaitable[object]]] = {"asyncio streams": streams.call, "penstock_client": with_sdk}
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)))

    async def with_aiohttp() -> bytes:
        async with session.post(f"{url}/predict", data=BODY, headers=FIELDS) as reply:
            return await reply.read()

    clients["aiohttp"] = with_aiohttp
    httpx = _installed("httpx")
    if httpx is not None:
        limits = httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        other = await stack.enter_async_context(httpx.AsyncClient(base_url=url, limits=limits))

        async def with_httpx() -> bytes:
            body: bytes = (await other.post("/predict", content=BODY, headers=FIELDS)).content
            return body

        clients["httpx"] = with_httpx
    return clients


class _Streams:
    """asyncio's streams with nothing around them: what the standard library has for this."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        fields = "".join(f"{name}: {value}\r\n" for name, value in FIELDS.items())
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}Content-Length: {len(BODY)}\r\n\r\n"
        self._request = head.encode() + BODY

    async def call(self) -> bytes:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        body = await reader.readexactly(length)
        self._idle.append((reader, writer))
        return body

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


def _installed(name: str) -> Any:
    """Import a library that is compared with where it is installed, None where it is not."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def times_table(rounds: list[list[ClientTime]]) -> str:
    """Show the medians of each client."""
    lines = [f"{'':<24} {'CPU of a call':>14} {'calls in a second':>18}"]
    for name in dict.fromkeys(one.name for times in rounds for one in times):
        mine = [one for times in rounds for one in times if one.name == name]
        cpu = statistics.median(one.cpu_us for one in mine)
        rate = statistics.median(one.calls_per_second for one in mine)
        lines.append(f"{name:<24} {cpu:>11.1f} us {rate:>18,.0f}")
    return "\n".join(lines)
