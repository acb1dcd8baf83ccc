"""Some coroutines at a time, their answers in order."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

from penstock_client.in_flight import checked_concurrency

__all__ = ["in_order_awaited"]

A = TypeVar("A")
B = TypeVar("B")


def in_order_awaited(call: Callable[[A], Awaitable[B]], items: Iterable[A], concurrency: int) -> AsyncIterator[B]:
    """Await a call for each item, `concurrency` at a time."""
    return _in_order_awaited(call, items, checked_concurrency(concurrency))


async def _in_order_awaited(
    call: Callable[[A], Awaitable[B]], items: Iterable[A], concurrency: int
) -> AsyncIterator[B]:
    under_way: collections.deque[asyncio.Future[B]] = collections.deque()
    try:
        for item in items:
            under_way.append(asyncio.ensure_future(call(item)))
            if len(under_way) == concurrency:
                yield await under_way.popleft()
        while under_way:
            yield await under_way.popleft()
    finally:
        for one in under_way:
            one.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
