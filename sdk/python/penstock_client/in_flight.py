"""Some calls at a time, their answers in order."""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from penstock_client.errors import ArgumentError

__all__ = ["checked_concurrency", "in_order"]

A = TypeVar("A")
B = TypeVar("B")


def checked_concurrency(concurrency: int) -> int:
    """Return it; ArgumentError when it is none."""
    if concurrency < 1:
        raise ArgumentError(f"concurrency is {concurrency}: it is 1 or more")
    return concurrency


def in_order(call: Callable[[A], B], items: Iterable[A], concurrency: int) -> Iterator[B]:
    """Call for each item, from threads of its own, `concurrency` at a time."""
    return _in_order(call, items, checked_concurrency(concurrency))


def _in_order(call: Callable[[A], B], items: Iterable[A], concurrency: int) -> Iterator[B]:
    if concurrency == 1:
        yield from map(call, items)
        return
    threads = _Threads[B](concurrency)
    under_way: collections.deque[concurrent.futures.Future[B]] = collections.deque()
    try:
        for item in items:
            under_way.append(threads.submit(functools.partial(call, item)))
            if len(under_way) == concurrency:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        # What is under way ends by itself; nobody waits for it.
        for one in under_way:
            one.cancel()
        threads.end()


class _Threads(Generic[B]):
    """A pool whose threads nobody waits for: a program that ends would wait for those of a ThreadPoolExecutor."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._started = 0
        self._work: queue.SimpleQueue[tuple[concurrent.futures.Future[B], Callable[[], B]] | None]
        self._work = queue.SimpleQueue()

    def submit(self, call: Callable[[], B]) -> concurrent.futures.Future[B]:
        """Have a thread call it."""
        future: concurrent.futures.Future[B] = concurrent.futures.Future()
        self._work.put((future, call))
        if self._left:
            self._left -= 1
            self._started += 1
            threading.Thread(target=self._run, name="penstock-batch", daemon=True).start()
        return future

    def end(self) -> None:
        """Let the threads end when they have nothing left to do."""
        for _ in range(self._started):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, call = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = call()
            except BaseException as error:  # whoever asked is told
                future.set_exception(error)
            else:
                future.set_result(answer)
                del answer
            # A thread that waits must hold no rows.
            del work, future, call
