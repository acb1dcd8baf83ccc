"""The door to Redis."""

from __future__ import annotations

from collections.abc import Sequence

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from penstock.cache.frames import Asked, Kept

__all__ = ["Store", "StoreError"]


class StoreError(Exception):
    """Redis did not answer, or not as it should; the text says why, without the password."""


class Store:
    """One connection to Redis, made when it is needed and again after it was lost. One thread."""

    def __init__(self, url: str, password: str | None, timeout_s: float) -> None:
        """Nothing is sent yet. `password` wins over that of the URL; StoreError for a URL that means nothing."""
        more = {} if password is None else {"password": password}
        try:
            self._redis = redis.Redis.from_url(
                url,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                **more,
            )
            self._redis.connection_pool.make_connection()  # reads the options, and connects nowhere
        except (ValueError, TypeError, redis.RedisError):
            # Whatever the library says may quote the URL, and a password in it.
            raise StoreError("redis-py does not take the options of the URL: see cache_redis") from None

    def ping(self) -> None:
        """StoreError unless Redis answers, and lets us in."""
        try:
            self._redis.ping()
        except (redis.RedisError, OSError) as error:
            raise _error(error) from error

    def look_up(self, asked: Sequence[Asked]) -> list[bytes | None]:
        """Return what lies there by these names, cut at a byte more than it may be long; StoreError."""
        pipeline = self._redis.pipeline(transaction=False)
        for each in asked:
            # Somebody else's value may be of any kind and size.
            pipeline.getrange(each.name, 0, each.size)
        return [value if isinstance(value, bytes) and value else None for value in _results(pipeline)]

    def keep(self, values: Sequence[Kept]) -> int:
        """Put values there; how many arrived. StoreError."""
        pipeline = self._redis.pipeline(transaction=False)
        for each in values:
            pipeline.set(each.name, each.value, px=each.ttl_ms)
        return sum(result is True for result in _results(pipeline))


def _results(pipeline: redis.client.Pipeline) -> list[object]:
    try:
        results: list[object] = pipeline.execute(raise_on_error=False)
    except (redis.RedisError, OSError) as error:
        raise _error(error) from error
    for result in results:
        # A value of another kind under our name is that value's matter; that we may not read, or cannot, is ours.
        if isinstance(result, redis.RedisError) and not str(result).startswith("WRONGTYPE"):
            raise _error(result) from result
    return results


def _error(error: Exception) -> StoreError:
    return StoreError(f"{type(error).__name__}: {error}")
