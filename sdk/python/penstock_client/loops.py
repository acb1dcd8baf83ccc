"""The transport of asyncio: a pool of keep-alive connections for each event loop that uses the client."""

from __future__ import annotations

import asyncio
import collections
import os
import select
import time
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from penstock_client.address import Address, told
from penstock_client.errors import ConnectError, ConnectionLostError, ProtocolError, TimedOutError, TransportError
from penstock_client.messages import BadReply, Reply, ReplyReader
from penstock_client.steps import Failure, Outcome, Send, Steps

__all__ = ["LoopTransport"]

T = TypeVar("T")

_IDLE_S_MAX = 50.0
_CONNECT_S_MAX = 10.0


class LoopTransport:
    """Exchanges one request for one reply at a time on each of at most `connections_max` connections of a loop."""

    def __init__(self, address: Address, connections_max: int) -> None:
        self._address = address
        self._connections_max = connections_max
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}
        self._pool: _Pool | None = None
        self._owner = os.getpid()

    async def run(self, steps: Steps[T], /) -> T:
        """Do what the steps ask for until they end."""
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                if isinstance(step, Send):
                    outcome = await self.exchange(step)
                else:
                    await asyncio.sleep(step.seconds)
                    outcome = None
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        finally:
            steps.close()

    async def exchange(self, send: Send) -> Reply | Failure:
        """Send a request and wait for its reply."""
        loop = asyncio.get_running_loop()
        pool = self._pool
        if pool is None or pool.loop is not loop or self._owner != os.getpid():
            pool = self._pool_of(loop)
        return await pool.exchange(send)

    def _pool_of(self, loop: asyncio.AbstractEventLoop) -> _Pool:
        if self._owner != os.getpid():
            # Their loops are the parent's, down to the descriptor of epoll: they must not be touched here.
            _inherited.append(self._pools)
            self._pools = {}
            self._owner = os.getpid()
        pool = self._pools.get(loop)
        if pool is None:
            self._forget_ended()
            pool = self._pools[loop] = _Pool(self._address, self._connections_max, loop)
        self._pool = pool
        return pool

    def close(self) -> None:
        """Close the connections of the running loop that are idle; to be called in that loop."""
        self._forget_ended()
        pool = self._pools.get(asyncio.get_running_loop())
        if pool is not None:
            pool.close()

    def _forget_ended(self) -> None:
        # A loop that has ended can close nothing, and its connections are nobody's.
        for ended in [loop for loop in list(self._pools) if loop.is_closed()]:
            pool = self._pools.pop(ended, None)
            if pool is not None:
                pool.forget()
        if self._pool is not None and self._pool.loop.is_closed():
            self._pool = None


_inherited: list[Any] = []


class _Pool:
    """The connections of one loop. Only that loop's thread comes here, so nothing needs a lock."""

    def __init__(self, address: Address, connections_max: int, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._address = address
        self._free = connections_max
        self._connections_max = connections_max
        self._idle: list[_Connection] = []  # newest last, and first taken
        self._waiting: collections.deque[asyncio.Future[bool]] = collections.deque()
        self._closed = False

    async def exchange(self, send: Send) -> Reply | Failure:
        if self._free > 0:
            self._free -= 1
        elif not await self._permit(send.deadline):
            text = f"all {self._connections_max} connections were busy until the call's time was over"
            return Failure(TimedOutError(text))
        try:
            return await self._exchange(send)
        finally:
            self._release()

    async def _exchange(self, send: Send) -> Reply | Failure:
        connection = self._take_idle()
        if connection is None:
            try:
                connection = await self._open(send.deadline)
            except (OSError, asyncio.TimeoutError) as error:
                return Failure(self._no_connection(error, send))
        try:
            outcome = await connection.exchange(send)
        except BaseException:
            # The task is cancelled: the reply may still come, and nobody would wait for it.
            connection.abort()
            raise
        if connection.usable and not self._closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
        else:
            connection.abort()
        return outcome

    async def _permit(self, deadline: float | None) -> bool:
        """Wait until a connection's permit is handed over; False when the time is over before."""
        turn: asyncio.Future[bool] = self.loop.create_future()
        self._waiting.append(turn)
        timer = None
        if deadline is not None:
            timer = self.loop.call_later(max(deadline - time.monotonic(), 0.0), _settle, turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                self._release()  # handed over and cancelled at once: it is the next one's
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _release(self) -> None:
        """Hand a permit to who has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                return
        self._free += 1

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh():
                return connection
            connection.abort()
        return None

    async def _open(self, deadline: float | None) -> _Connection:
        left = _CONNECT_S_MAX if deadline is None else min(deadline - time.monotonic(), _CONNECT_S_MAX)
        address = self._address
        if address.path:
            return await _within(self.loop.create_unix_connection(lambda: _Connection(self.loop), address.path), left)
        named = address.host if address.tls is not None else None
        opening = self.loop.create_connection(
            lambda: _Connection(self.loop), address.host, address.port, ssl=address.tls, server_hostname=named
        )
        return await _within(opening, left)

    def _no_connection(self, error: Exception, send: Send) -> TransportError:
        late = send.deadline is not None and time.monotonic() >= send.deadline
        if isinstance(error, (TimeoutError, asyncio.TimeoutError)) and late:
            return TimedOutError(f"no connection to {self._address} before the call's time was over")
        return ConnectError(told(self._address, error))

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    def forget(self) -> None:
        """Let go of the sockets of a loop that has ended."""
        while self._idle:
            self._idle.pop().forget()


async def _within(opening: Coroutine[Any, Any, tuple[Any, _Connection]], seconds: float) -> _Connection:
    """Await a connection for so long. Not asyncio.wait_for(), which may lose a cancellation, or the connection."""
    task = asyncio.ensure_future(opening)
    try:
        await asyncio.wait({task}, timeout=max(seconds, 0.0))
    except BaseException:
        _give_up(task)
        raise
    if not task.done():
        _give_up(task)
        raise TimeoutError("timed out")
    return task.result()[1]


def _give_up(opening: asyncio.Task[tuple[Any, _Connection]]) -> None:
    def ended(task: asyncio.Task[tuple[Any, _Connection]]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.result()[1].abort()

    opening.cancel()
    opening.add_done_callback(ended)


def _settle(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)


class _Connection(asyncio.BufferedProtocol):
    """A connection and the reader of its replies. asyncio reads straight into the reader's buffer."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reader = ReplyReader()
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply | Failure] | None = None
        self._room: asyncio.Future[None] | None = None
        self._poll = select.poll()
        self.usable = True
        self.idle_since = 0.0

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What other loops give, such as uvloop's, is a Transport in all but name.
        self._transport = cast(asyncio.Transport, transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._answer is None or self._answer.done():
            self.abort()  # nobody has asked
            return
        try:
            complete = self._reader.filled(nbytes)
        except BadReply as error:
            self._answer.set_result(Failure(ProtocolError(f"what answers is no Penstock: {error}", may_have_run=True)))
            self.abort()
            return
        if complete:
            self._complete()

    def eof_received(self) -> bool:
        if self._answer is not None and not self._answer.done() and self._reader.ended():
            self._complete()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._transport = None
        if self._answer is not None and not self._answer.done():
            reason = getattr(exc, "strerror", None) or str(exc or "it was closed by the server")
            text = f"the connection ended before the answer was complete: {reason}"
            # How much of the request has left is asyncio's own secret.
            self._answer.set_result(Failure(ConnectionLostError(text, may_have_run=True)))
        self.resume_writing()

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._room = None

    # ---- what the pool calls

    def is_fresh(self) -> bool:
        """Whether a request may be sent on it: it is still there, nothing has come that nobody asked for."""
        if self._transport is None or self._transport.is_closing():
            return False
        return time.monotonic() - self.idle_since <= _IDLE_S_MAX and not self._poll.poll(0)

    async def exchange(self, send: Send) -> Reply | Failure:
        """Send a request, wait for its reply."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return Failure(ConnectionLostError("the connection ended before the request was sent"))
        self.usable = False
        self._reader.expect()
        answer: asyncio.Future[Reply | Failure] = self._loop.create_future()
        self._answer = answer
        timer = None
        if send.deadline is not None:
            timer = self._loop.call_later(max(send.deadline - time.monotonic(), 0.0), self._expire)
        try:
            transport.write(send.data)
            if send.more:
                await self._write_more(transport, send)
            return await answer
        finally:
            self._answer = None
            if timer is not None:
                timer.cancel()

    async def _write_more(self, transport: asyncio.Transport, send: Send) -> None:
        assert self._answer is not None
        for piece in send.more:
            if self._answer.done():  # refused, or lost, while it was being sent
                self.usable = False
                return
            transport.write(piece)
            if self._room is not None:
                waited: list[asyncio.Future[Any]] = [self._room, self._answer]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)

    def _complete(self) -> None:
        assert self._answer is not None
        # An answer that comes before the request has left is a refusal, and the rest of the request nobody's.
        sent = self._transport is None or self._transport.get_write_buffer_size() == 0
        self.usable = self._reader.reusable and sent
        self._answer.set_result(self._reader.take())

    def _expire(self) -> None:
        if self._answer is not None and not self._answer.done():
            text = "no answer before the call's time was over"
            self._answer.set_result(Failure(TimedOutError(text, may_have_run=True)))

    def forget(self) -> None:
        """Let go of the socket, which closes itself; for a loop that has ended, where nothing can be closed."""
        self.usable = False
        self._transport = None

    def abort(self) -> None:
        """End it; whatever is under way on it ends."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()
