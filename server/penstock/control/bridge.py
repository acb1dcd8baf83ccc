"""Between greenlets and asyncio: one event loop on a native thread, whose results greenlets wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from penstock.control.hub import HubEvent
from penstock.core.errors import RequestError

__all__ = ["AsyncBridge"]

_T = TypeVar("_T")


class AsyncBridge:
    """Owns an asyncio loop on a thread of its own. gevent knows nothing of the loop, nor the loop of gevent."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="penstock-async", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        # Whoever submits holds it, so that nothing is put behind the last callback that the loop runs.
        self._lock = threading.Lock()
        self._stopped = False
        self._draining = False
        self._calls: set[Future[Any]] = set()

    def start(self) -> None:
        """Start the thread and return once its loop runs."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Cancel what runs, let it clean up, end the thread. Calls under way and later ones raise `draining`."""
        with self._lock:
            if self._stopped or self._loop is None or self._stop is None:
                return
            self._stopped = True
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, from start() on."""
        if self._loop is None:
            raise RuntimeError("the bridge has not been started")
        return self._loop

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop; its result, or what it raised. The calling greenlet waits, the hub goes on.

        A greenlet that is killed meanwhile takes the coroutine with it. RequestError (`draining`) after drain(), or
        when the bridge ends.
        """
        future = self._submit(coroutine, may=not self._draining)
        self._calls.add(future)
        try:
            return self._result_of(future)
        finally:
            self._calls.discard(future)

    def finish(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run what is to be done after drain(), as call() does."""
        return self._result_of(self._submit(coroutine, may=True))

    def drain(self) -> None:
        """Have calls under way and later ones raise `draining`: a server that stops waits for no model to load.

        To be called by the thread of the hub.
        """
        self._draining = True
        for future in list(self._calls):
            future.cancel()

    def _submit(self, coroutine: Coroutine[Any, Any, _T], *, may: bool) -> Future[_T]:
        with self._lock:
            if self._stopped or not may:
                coroutine.close()
                raise _draining()
            return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def _result_of(self, future: Future[_T]) -> _T:
        done = HubEvent()
        try:
            future.add_done_callback(lambda _: done.set())
            done.wait()
        except BaseException:
            future.cancel()
            raise
        finally:
            done.close()
        try:
            return future.result()
        except CancelledError:
            raise _draining() from None

    def _run(self) -> None:
        # The runner's end cancels every task, waits for them, and closes generators and threads of the loop.
        with asyncio.Runner() as runner:
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started.set()
        await self._stop.wait()


def _draining() -> RequestError:
    return RequestError("draining", "the server is shutting down and does not do this any more; ask another one")
