"""Greenlets that wait for coroutines: results, exceptions, the hub meanwhile, the end."""

import asyncio
import threading
from collections.abc import Iterator

import gevent
import pytest

from penstock.control.bridge import AsyncBridge
from penstock.control.hub import wait_until
from penstock.core.errors import RequestError

SECONDS = 120.0


@pytest.fixture
def bridge() -> Iterator[AsyncBridge]:
    bridge = AsyncBridge()
    bridge.start()
    yield bridge
    bridge.stop()


class Gate:
    """Something on the bridge's loop that does not end before it is opened."""

    def __init__(self, bridge: AsyncBridge) -> None:
        self._loop = bridge.loop
        self._opened = asyncio.Event()
        self.inside = 0
        self.cancelled = 0

    async def pass_through(self, value: int) -> int:
        self.inside += 1
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return value

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._opened.set)


def test_result_comes_back_from_another_thread(bridge: AsyncBridge) -> None:
    async def where() -> tuple[str, bool]:
        return threading.current_thread().name, asyncio.get_running_loop() is bridge.loop

    assert bridge.call(where()) == ("penstock-async", True)


def test_exception_is_the_very_one_that_was_raised(bridge: AsyncBridge) -> None:
    raised = RequestError("conflict", "somebody else was faster")

    async def fail() -> None:
        raise raised

    with pytest.raises(RequestError) as caught:
        bridge.call(fail())
    assert caught.value is raised


def test_many_greenlets_wait_at_once_and_the_hub_goes_on(bridge: AsyncBridge) -> None:
    gate = Gate(bridge)
    waiting = [gevent.spawn(bridge.call, gate.pass_through(number)) for number in range(500)]
    assert wait_until(lambda: gate.inside == 500, SECONDS)  # which takes the hub
    assert not any(greenlet.ready() for greenlet in waiting)
    gate.open()
    gevent.joinall(waiting, timeout=SECONDS)
    assert [greenlet.value for greenlet in waiting] == list(range(500))


def test_calls_leave_no_watcher_behind(bridge: AsyncBridge) -> None:
    async def nothing() -> None:
        pass

    bridge.call(nothing())
    before = gevent.get_hub().loop.activecnt
    for _ in range(100):
        bridge.call(nothing())
    assert gevent.get_hub().loop.activecnt == before


def test_killed_greenlet_takes_its_coroutine_with_it(bridge: AsyncBridge) -> None:
    gate = Gate(bridge)
    waiting = gevent.spawn(bridge.call, gate.pass_through(1))
    assert wait_until(lambda: gate.inside == 1, SECONDS)
    waiting.kill()
    assert wait_until(lambda: gate.cancelled == 1, SECONDS)


def test_stop_cancels_what_runs_and_refuses_what_comes() -> None:
    bridge = AsyncBridge()
    bridge.start()
    gate = Gate(bridge)
    waiting = [gevent.spawn(bridge.call, gate.pass_through(number)) for number in range(5)]
    assert wait_until(lambda: gate.inside == 5, SECONDS)
    bridge.stop()
    assert gate.cancelled == 5
    for greenlet in waiting:
        with pytest.raises(RequestError) as refused:
            greenlet.get(timeout=SECONDS)
        assert refused.value.code == "draining"
    with pytest.raises(RequestError) as refused:
        bridge.call(gate.pass_through(6))
    assert refused.value.code == "draining"
    bridge.stop()  # a second time does nothing


def test_drain_refuses_calls_but_not_what_is_left_to_do(bridge: AsyncBridge) -> None:
    gate = Gate(bridge)
    waiting = gevent.spawn(bridge.call, gate.pass_through(1))
    assert wait_until(lambda: gate.inside == 1, SECONDS)
    bridge.drain()
    for call in (lambda: waiting.get(timeout=SECONDS), lambda: bridge.call(gate.pass_through(2))):
        with pytest.raises(RequestError) as refused:
            call()
        assert refused.value.code == "draining"
    assert wait_until(lambda: gate.cancelled == 1, SECONDS)
    gate.open()
    assert bridge.finish(gate.pass_through(3)) == 3


def test_stop_lets_a_coroutine_clean_up(bridge: AsyncBridge) -> None:
    cleaned = threading.Event()
    entered = threading.Event()

    async def hold() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    other = AsyncBridge()
    other.start()
    waiting = gevent.spawn(other.call, hold())
    assert wait_until(entered.is_set, SECONDS)
    other.stop()
    assert cleaned.is_set()
    with pytest.raises(RequestError):
        waiting.get(timeout=SECONDS)


def test_loop_is_there_from_the_start_on() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        _ = AsyncBridge().loop
