"""A server that fails in every way there is, over real sockets, and knows which requests it has acted on."""

import asyncio
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["FAULTS", "FaultyServer"]

# What becomes of a request. Those in the first group are answered or refused as Penstock does it.
FAULTS = (
    "answer",
    "answer and close",
    "answer and say close",
    "answer in pieces",
    "refuse 503",
    "refuse 429",
    "refuse and close",
    "worker died",
    "fail",
    # before anybody has acted
    "close at once",
    "reset at once",
    "reset within the head",
    "reset within the body",
    # after it was acted on
    "act and close",
    "act and reset",
    "act and cut the head",
    "act and cut the body",
    "act and babble",
    "act and say nothing",
    # a proxy's words, from which nobody can tell
    "act and 502",
    "502",
)


class FaultyServer:
    """Listens on 127.0.0.1 in a thread of its own; `acted` counts for each id how often its request was acted on."""

    def __init__(self, seed: int) -> None:
        self.acted: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._listening, limit=2**22))
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._one(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # of a task that ends here; asyncio's streams would log it
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Treat one request; False when the connection is at its end."""
        # A silent fault costs the client a whole time-out.
        weights = [1 if fault == "act and say nothing" else 40 if fault == "answer" else 10 for fault in FAULTS]
        (fault,) = self._random.choices(FAULTS, weights)
        if fault == "reset within the head":
            await reader.readexactly(10)
            return self._count(fault) and reset(writer)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self._count(fault)
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("Content-Length:"))
        if fault in ("close at once", "reset at once"):
            return reset(writer) if fault == "reset at once" else False
        if fault == "reset within the body":
            await reader.readexactly(length // 2)
            return reset(writer)
        document = json.loads(await reader.readexactly(length))
        return await self._reply(fault, document["inputs"]["id"], reader, writer)

    def _count(self, fault: str) -> bool:
        self.faults[fault] += 1
        return True

    async def _reply(self, fault: str, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        acts = fault.startswith(("answer", "act")) or fault in ("worker died", "fail")
        if acts:
            self.acted[name] += 1
        whole = reply(200, {"model": "m", "version": "1", "outputs": {"id": name}})
        replies: dict[str, Callable[[], Awaitable[bool]]] = {
            "answer": lambda: self._write(writer, whole),
            "answer and close": lambda: self._write(writer, whole, end=True),
            "answer and say close": lambda: self._write(
                writer, whole.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1), end=True
            ),
            "answer in pieces": lambda: self._in_pieces(writer, whole),
            "refuse 503": lambda: self._write(writer, problem(503, "queue_full", "Retry-After: 0\r\n")),
            "refuse 429": lambda: self._write(writer, problem(429, "too_many_requests", "Retry-After: 0\r\n")),
            "refuse and close": lambda: self._write(
                writer, problem(503, "draining", "Retry-After: 0\r\nConnection: close\r\n"), end=True
            ),
            "worker died": lambda: self._write(writer, problem(503, "worker_died", "Retry-After: 0\r\n")),
            "fail": lambda: self._write(writer, problem(500, "model_error", "")),
            "act and cut the head": lambda: self._write(writer, whole[:20], end=True),
            "act and cut the body": lambda: self._write(writer, whole[:-4], end=True),
            "act and babble": lambda: self._write(writer, b"!" * 50, end=True),
            "act and 502": lambda: self._write(writer, proxy()),
            "502": lambda: self._write(writer, proxy()),
        }
        if fault in replies:
            return await replies[fault]()
        if fault == "act and say nothing":
            await reader.read()  # until the client gives up
        return reset(writer) if fault == "act and reset" else False

    async def _write(self, writer: asyncio.StreamWriter, data: bytes, *, end: bool = False) -> bool:
        writer.write(data)
        await writer.drain()
        return not end

    async def _in_pieces(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        for at in range(0, len(data), 40):
            writer.write(data[at : at + 40])
            await writer.drain()
            await asyncio.sleep(0)
        return True


def reset(writer: asyncio.StreamWriter) -> bool:
    """End the connection with a RST; False, as whoever asks whether it goes on."""
    plain: socket.socket = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


def reply(status: int, document: dict[str, Any], fields: str = "", kind: str = "application/json") -> bytes:
    body = json.dumps(document).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def problem(status: int, code: str, fields: str) -> bytes:
    return reply(status, {"code": code, "detail": code, "status": status}, fields, "application/problem+json")


def proxy() -> bytes:
    return b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
