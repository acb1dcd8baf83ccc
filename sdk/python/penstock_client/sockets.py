"""The blocking transport: a pool of keep-alive connections over TCP, TLS or a Unix socket.

Any thread may use it, and greenlets where gevent has patched the sockets. Whatever gevent may patch is looked up when
it is used, so it does not matter who is imported first. After a fork the child makes connections of its own.
"""

from __future__ import annotations

import collections
import os
import queue
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from penstock_client.address import Address, told
from penstock_client.errors import ConnectError, ConnectionLostError, ProtocolError, TimedOutError, TransportError
from penstock_client.messages import BadReply, Reply, ReplyReader
from penstock_client.steps import Failure, Outcome, Send, Steps

if TYPE_CHECKING:
    import ssl

__all__ = ["SocketTransport"]

T = TypeVar("T")

# Routers forget connections that are silent, some after a minute; Penstock itself after its idle_timeout_ms.
_IDLE_S_MAX = 50.0
_CONNECT_S_MAX = 10.0


class SocketTransport:
    """Exchanges one request for one reply at a time on each of at most `connections_max` connections."""

    def __init__(self, address: Address, connections_max: int) -> None:
        self._address = address
        self._connections_max = connections_max
        self._closed = False
        self._renew()
        _living.add(self)

    def _renew(self) -> None:
        # Newest first, so that few connections are busy and the others can grow old. deque and SimpleQueue are atomic.
        self._idle: collections.deque[_Connection] = collections.deque()
        self._permits: queue.SimpleQueue[_Permit | weakref.ref[_Permit]] = queue.SimpleQueue()
        self._guards: list[weakref.ref[_Permit]] = []
        for _ in range(self._connections_max):
            self._permits.put(self._permit())

    def _permit(self) -> _Permit:
        # One that is lost, since a signal's handler raised at a bad moment, comes back: its guard takes its place, and
        # that happens in C, where no signal is looked at.
        permit = _Permit()
        self._guards.append(weakref.ref(permit, self._permits.put))
        return permit

    def forked(self) -> None:
        """Forget the parent's connections: the parent goes on using them. To be called in the child."""
        for connection in self._idle:
            connection.drop()
        self._renew()

    def close(self) -> None:
        """Close the connections that are idle, and the others when they have their answer."""
        self._closed = True
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def run(self, steps: Steps[T], /) -> T:
        """Do what the steps ask for until they end."""
        outcome: Outcome = None
        try:
            while True:
                step = steps.send(outcome)
                if isinstance(step, Send):
                    outcome = self.exchange(step)
                else:
                    time.sleep(step.seconds)
                    outcome = None
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        finally:
            steps.close()

    def exchange(self, send: Send) -> Reply | Failure:
        """Send a request and wait for its reply."""
        permits = self._permits
        try:
            if send.deadline is None:
                permit = permits.get()
            else:
                permit = permits.get(timeout=max(send.deadline - time.monotonic(), 0.0))
        except queue.Empty:
            text = f"all {self._connections_max} connections were busy until the call's time was over"
            return Failure(TimedOutError(text))
        try:
            if isinstance(permit, weakref.ref):
                if permit in self._guards:
                    self._guards.remove(permit)
                permit = self._permit()
            return self._exchange(send)
        finally:
            permits.put(permit)

    def _exchange(self, send: Send) -> Reply | Failure:
        connection = self._take_idle()
        if connection is None:
            try:
                connection = _Connection.open(self._address, send.deadline)
            except OSError as error:
                return Failure(self._no_connection(error, send))
        try:
            outcome = connection.exchange(send)
        except BaseException:
            # Ctrl-C, or a greenlet that is killed: the reply may still come, and nobody would wait for it.
            connection.close()
            raise
        if connection.usable:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
            if self._closed:
                self.close()
        else:
            connection.close()
        return outcome

    def _take_idle(self) -> _Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_fresh():
                return connection
            connection.close()

    def _no_connection(self, error: OSError, send: Send) -> TransportError:
        late = send.deadline is not None and time.monotonic() >= send.deadline
        if isinstance(error, TimeoutError) and late:
            return TimedOutError(f"no connection to {self._address} before the call's time was over")
        return ConnectError(told(self._address, error))


class _Permit:
    """The right to one connection."""

    __slots__ = ("__weakref__",)


class _Connection:
    """A connection and the reader of its replies. One thread at a time has it."""

    __slots__ = ("__weakref__", "_native_thread", "_poll", "_reader", "_socket", "_tls", "idle_since", "usable")

    def __init__(self, connected: socket.socket, tls: ssl.SSLSocket | None) -> None:
        self._socket = connected
        self._tls = tls  # the same socket, where it encrypts
        self._reader = ReplyReader()
        self._poll = select.poll()
        self._poll.register(connected.fileno(), select.POLLIN)
        self.usable = True
        self.idle_since = 0.0
        # gevent's sockets belong to the native thread that made them.
        self._native_thread = threading.get_native_id() if hasattr(connected, "hub") else 0
        _connections.add(self)

    @classmethod
    def open(cls, address: Address, deadline: float | None) -> _Connection:
        """Connect; OSError when that fails."""
        left = _CONNECT_S_MAX if deadline is None else min(deadline - time.monotonic(), _CONNECT_S_MAX)
        if left <= 0:
            raise TimeoutError("timed out")
        ends = time.monotonic() + left
        connected = socket.socket(socket.AF_UNIX) if address.path else _connected_tcp(address, ends)
        try:
            connected.settimeout(max(ends - time.monotonic(), 0.001))
            if address.path:
                connected.connect(address.path)
            else:
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if address.tls is None:
                return cls(connected, None)
            connected = tls = address.tls.wrap_socket(connected, server_hostname=address.host)
            return cls(connected, tls)
        except BaseException:
            connected.close()
            raise

    def is_fresh(self) -> bool:
        """Whether a request may be sent on it: it is still there, nothing has come that nobody asked for."""
        if time.monotonic() - self.idle_since > _IDLE_S_MAX or self._poll.poll(0):
            return False
        return self._native_thread in (0, threading.get_native_id())

    def exchange(self, send: Send) -> Reply | Failure:
        """Send a request, read its reply."""
        self.usable = False
        reader = self._reader
        reader.expect()
        whole = False
        try:
            self._send(send.data, send.deadline)
            if send.more:
                self._send_more(send.more, send.deadline)
            whole = True
            self._receive(send.deadline)
        except TimeoutError:
            # The part of a request that is sent is none: its length says so. TLS may have sent more than it tells.
            ran = whole or self._tls is not None
            return Failure(TimedOutError("no answer before the call's time was over", may_have_run=ran))
        except BadReply as error:
            return Failure(ProtocolError(f"what answers is no Penstock: {error}", may_have_run=True))
        except (OSError, _EndError) as error:
            return self._lost(error, whole)
        # Bytes behind the reply may have been decrypted already; the socket says nothing of those.
        self.usable = reader.reusable and not (self._tls is not None and self._tls.pending())
        return reader.take()

    def _lost(self, error: Exception, whole: bool) -> Reply | Failure:
        if not whole:
            # A server that refuses a body before it has read it answers, and closes.
            reply = self._early_reply()
            if reply is not None and reply.status >= 400:
                return reply
            # One that says yes to a part of a request has acted on that part, whatever it was.
            whole = reply is not None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        ran = whole or self._tls is not None
        when = "before the answer was complete" if whole else "before the request was sent"
        return Failure(ConnectionLostError(f"the connection ended {when}: {reason}", may_have_run=ran))

    def _early_reply(self) -> Reply | None:
        try:
            self._receive(time.monotonic() + 1.0)
        except (OSError, BadReply, _EndError):
            return None
        return self._reader.take()

    def _send(self, data: bytes | memoryview, deadline: float | None) -> None:
        self._limit(deadline)
        sent = self._socket.send(data)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            self._limit(deadline)
            rest = rest[self._socket.send(rest) :]

    def _send_more(self, more: Iterable[bytes | memoryview], deadline: float | None) -> None:
        for piece in more:
            self._send(piece, deadline)

    def _receive(self, deadline: float | None) -> None:
        reader = self._reader
        while True:
            self._limit(deadline)
            count = self._socket.recv_into(reader.buffer())
            if count == 0:
                if reader.ended():
                    return
                raise _EndError("it was closed by the server")
            if reader.filled(count):
                return

    def _limit(self, deadline: float | None) -> None:
        if deadline is None:
            self._socket.settimeout(None)
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def close(self) -> None:
        """Close it; whatever is under way on it ends."""
        self.usable = False
        self._socket.close()

    def drop(self) -> None:
        """Close only this process's copy, without a word to the server."""
        self.usable = False
        # Not the socket's own close(), which gevent turns into a call of a loop that is the parent's.
        descriptor = self._socket.detach()
        if descriptor >= 0:
            os.close(descriptor)


def _connected_tcp(address: Address, ends: float) -> socket.socket:
    """Connect to the first of a name's addresses that answers; all of them together have until `ends`."""
    failed: OSError = TimeoutError("timed out")
    for family, kind, protocol, _, place in socket.getaddrinfo(address.host, address.port, 0, socket.SOCK_STREAM):
        left = ends - time.monotonic()
        if left <= 0:
            break
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(left)
            made.connect(place)
            return made
        except OSError as error:
            made.close()
            failed = error
        except BaseException:
            made.close()
            raise
    raise failed


class _EndError(Exception):
    """The connection is at its end."""


_living: weakref.WeakSet[SocketTransport] = weakref.WeakSet()
_connections: weakref.WeakSet[_Connection] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_living):
        transport.forked()
    # Those that other threads were using; there are no such threads here.
    for connection in list(_connections):
        connection.drop()


os.register_at_fork(after_in_child=_after_fork)
