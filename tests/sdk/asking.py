"""Both clients behind one face, so that a test holds for the blocking one and for that of asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from penstock_client import AsyncClient, Client

__all__ = ["Ask", "async_asker", "sync_asker"]


class Ask(Protocol):
    """ask("predict", "affine", row, version="1"): the call of this name, by a client made with `client`."""

    def __call__(self, name: str, *arguments: Any, client: dict[str, Any] | None = None, **options: Any) -> Any: ...


def sync_asker(url: str) -> Ask:
    def ask(name: str, *arguments: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        with Client(**{"url": url, **(client or {})}) as made:
            return called(made, name)(*arguments, **options)

    return ask


def async_asker(url: str) -> Ask:
    def ask(name: str, *arguments: Any, client: dict[str, Any] | None = None, **options: Any) -> Any:
        async def once() -> Any:
            async with AsyncClient(**{"url": url, **(client or {})}) as made:
                call: Callable[..., Awaitable[Any]] = called(made, name)
                return await call(*arguments, **options)

        return asyncio.run(once())

    return ask


def called(client: object, name: str) -> Any:
    """client.models.load for "models.load"."""
    for part in name.split("."):
        client = getattr(client, part)
    return client
