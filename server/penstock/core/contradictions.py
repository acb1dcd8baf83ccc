"""Settings that are right one by one and wrong together."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, urlsplit

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.errors import ConfigError

__all__ = ["GROUP_MODELS_MAX", "refuse_contradictions", "same_group"]

# A worker sleeps on one futex per model, and a wait takes 128 of them at most.
GROUP_MODELS_MAX = 64
# What belongs to the worker processes of a group and not to a model in them.
_OF_THE_PROCESS = ("instances", "cpus", "numa_node", "memory_bytes")

# Behind the URL of a Redis. Others of the library's change what it returns, or are unknown to it.
_REDIS_OPTIONS = ("client_name", "db", "password", "socket_connect_timeout", "socket_keepalive", "username")


def refuse_contradictions(config: ServerConfig) -> None:
    """Raise ConfigError for settings that contradict each other."""
    if config.reserved_connections >= config.max_connections:
        raise ConfigError(
            f"reserved_connections ({config.reserved_connections}) must be less than max_connections "
            f"({config.max_connections}): what is reserved for administration is part of the whole"
        )
    if config.development and not _is_loopback(config.host):
        raise ConfigError(
            f"development lets everyone administer without a key, and host is {config.host!r}: listen on 127.0.0.1, or "
            "leave development out and make a key (penstock keys create)"
        )
    if config.trace_endpoint is not None and not config.trace_endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"trace_endpoint is {config.trace_endpoint!r}, and traces go out over OTLP/HTTP: give the URL of the "
            "collector, such as http://localhost:4318"
        )
    _check_cache(config)
    for model in config.models:
        _check_sizes(model)
        _check_lengths(model)
    for group in same_group(config.models):
        _check_group(group)


def _check_cache(config: ServerConfig) -> None:
    # The URL may hold a password, and in any part of it where that is not quoted: nothing of it is shown.
    if config.cache_redis is not None and not _is_redis(config.cache_redis):
        raise ConfigError(
            "cache_redis is no URL of a Redis: give redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE with TLS, "
            "or unix:///PATH; in a password, / ? # @ % are %2F %3F %23 %40 %25, or give it as REDISCLI_AUTH; options "
            f"may be {', '.join(_REDIS_OPTIONS)} and ssl_*"
        )
    for model in config.models:
        if model.cache_shared and config.cache_redis is None:
            raise ConfigError(
                f"model {model.name!r} has cache_shared, and there is nowhere to share its answers: give cache_redis, "
                "or leave it out"
            )


def _is_redis(url: str) -> bool:
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else {}
        _ = parts.port  # ValueError for what is none
    except ValueError:
        return False
    if parts.fragment or not all(name in _REDIS_OPTIONS or name.startswith("ssl_") for name in options):
        return False
    if not all(values[0].isdecimal() for name, values in options.items() if name == "db"):
        return False
    if parts.scheme == "unix":
        return bool(parts.path)
    return parts.scheme in ("redis", "rediss") and (parts.path in ("", "/") or parts.path[1:].isdecimal())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def same_group(models: Iterable[ModelConfig]) -> list[tuple[ModelConfig, ...]]:
    """Put models of the same `group` together, each of the others alone, in the order of their first appearance."""
    groups: dict[object, list[ModelConfig]] = {}
    for model in models:
        # A group may have the name of a model that is not in it.
        key = ("group", model.group) if model.group is not None else ("model", model.name, model.version)
        groups.setdefault(key, []).append(model)
    return [tuple(members) for members in groups.values()]


def _check_sizes(model: ModelConfig) -> None:
    sizes, fixed = model.batch_sizes, model.reproducible_batch_size
    where = f"model {model.name!r}"
    if sizes and sizes[-1] != model.max_batch_size:
        raise ConfigError(
            f"{where}: the largest of batch_sizes ({sizes[-1]}) must be max_batch_size ({model.max_batch_size}): "
            f"set max_batch_size = {sizes[-1]}, or allow {model.max_batch_size} rows"
        )
    if fixed is not None and fixed > model.max_batch_size:
        raise ConfigError(
            f"{where}: reproducible_batch_size ({fixed}) must be at most max_batch_size ({model.max_batch_size})"
        )
    if fixed is not None and sizes and fixed not in sizes:
        raise ConfigError(
            f"{where}: reproducible_batch_size ({fixed}) must be one of batch_sizes ({', '.join(map(str, sizes))})"
        )


def _check_lengths(model: ModelConfig) -> None:
    tokens, where = model.max_batch_tokens, f"model {model.name!r}"
    if tokens and not model.lengths:
        raise ConfigError(
            f"{where}: max_batch_tokens is for rows that vary in length: set lengths, or bound the rows of a batch "
            "with max_batch_size"
        )
    least = (model.batch_sizes[0] if model.batch_sizes else 1) * (model.lengths[-1] if model.lengths else 0)
    if tokens and tokens < least:
        raise ConfigError(
            f"{where}: max_batch_tokens ({tokens}) must be at least {least}: a batch of the longest rows that may run, "
            f"{least // model.lengths[-1]} of {model.lengths[-1]}, would be larger"
        )


def _check_group(models: Sequence[ModelConfig]) -> None:
    first = models[0]
    if len(models) > GROUP_MODELS_MAX:
        raise ConfigError(
            f"group {first.group!r} has {len(models)} models: a worker process serves at most {GROUP_MODELS_MAX}; "
            "make two groups of it"
        )
    for other in models[1:]:
        for name in _OF_THE_PROCESS:
            if getattr(other, name) != getattr(first, name):
                raise ConfigError(
                    f"group {first.group!r}: models {first.name!r} and {other.name!r} differ in {name}, which belongs "
                    "to the worker processes that they share: give both the same"
                )
