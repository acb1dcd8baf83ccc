"""Settings that are right one by one and wrong together."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from penstock.core.config import ModelConfig, Precision, ServerConfig
from penstock.core.devices import CPU
from penstock.core.errors import ConfigError
from penstock.core.secrets import without_secrets

__all__ = ["GROUP_MODELS_MAX", "Contradiction", "contradictions", "refuse_contradictions", "same_group"]

# A worker sleeps on one futex per model, and a wait takes 128 of them at most.
GROUP_MODELS_MAX = 64
# What belongs to the worker processes of a group and not to a model in them.
_OF_THE_PROCESS = ("instances", "device", "cpus", "numa_node", "memory_bytes")

# Behind the URL of a Redis. Others of the library's change what it returns, or are unknown to it.
_REDIS_OPTIONS = ("client_name", "db", "password", "socket_connect_timeout", "socket_keepalive", "username")


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What is wrong, and by which setting it shows: the server's, or that of a model."""

    setting: str
    text: str
    model: ModelConfig | None = None


def refuse_contradictions(config: ServerConfig) -> None:
    """Raise ConfigError for settings that contradict each other."""
    for contradiction in contradictions(config):
        raise ConfigError(contradiction.text)


def contradictions(config: ServerConfig) -> Iterator[Contradiction]:
    """Find settings that contradict each other."""
    if config.reserved_connections >= config.max_connections:
        yield Contradiction(
            "reserved_connections",
            f"reserved_connections ({config.reserved_connections}) must be less than max_connections "
            f"({config.max_connections}): what is reserved for administration is part of the whole",
        )
    if config.port and config.port == config.grpc_port:
        yield Contradiction(
            "grpc_port",
            f"port and grpc_port are both {config.port}, and only one can have it: give grpc_port another, or leave it "
            "out (every port answers gRPC)",
        )
    if config.development and not _is_loopback(config.host):
        yield Contradiction(
            "development",
            f"development lets everyone administer without a key, and host is {config.host!r}: listen on 127.0.0.1, or "
            "leave development out and make a key (penstock keys create)",
        )
    if config.trace_endpoint is not None and not config.trace_endpoint.startswith(("http://", "https://")):
        yield Contradiction(
            "trace_endpoint",
            f"trace_endpoint is {without_secrets(config.trace_endpoint)!r}, and traces go out over OTLP/HTTP: give the "
            "URL of the collector, such as http://localhost:4318",
        )
    yield from _of_cache(config)
    for model in config.models:
        yield from _of_sizes(model)
        yield from _of_lengths(model)
        yield from _of_device(model)
    for group in same_group(config.models):
        yield from _of_group(group)


def _of_cache(config: ServerConfig) -> Iterator[Contradiction]:
    # The URL may hold a password, and in any part of it where that is not quoted: nothing of it is shown.
    if config.cache_redis is not None and not _is_redis(config.cache_redis):
        yield Contradiction(
            "cache_redis",
            "cache_redis is no URL of a Redis: give redis://HOST:PORT/DATABASE, rediss://HOST:PORT/DATABASE with TLS, "
            "or unix:///PATH; in a password, / ? # @ % are %2F %3F %23 %40 %25, or give it as REDISCLI_AUTH; options "
            f"may be {', '.join(_REDIS_OPTIONS)} and ssl_*",
        )
    for model in config.models:
        if model.cache_shared and config.cache_redis is None:
            yield Contradiction(
                "cache_shared",
                f"model {model.name!r} has cache_shared, and there is nowhere to share its answers: give cache_redis, "
                "or leave it out",
                model,
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


def _of_sizes(model: ModelConfig) -> Iterator[Contradiction]:
    sizes, fixed = model.batch_sizes, model.reproducible_batch_size
    where = f"model {model.name!r}"
    if sizes and sizes[-1] != model.max_batch_size:
        yield Contradiction(
            "batch_sizes",
            f"{where}: the largest of batch_sizes ({sizes[-1]}) must be max_batch_size ({model.max_batch_size}): "
            f"set max_batch_size = {sizes[-1]}, or allow {model.max_batch_size} rows",
            model,
        )
    if fixed is not None and fixed > model.max_batch_size:
        yield Contradiction(
            "reproducible_batch_size",
            f"{where}: reproducible_batch_size ({fixed}) must be at most max_batch_size ({model.max_batch_size})",
            model,
        )
    if fixed is not None and sizes and fixed not in sizes:
        yield Contradiction(
            "reproducible_batch_size",
            f"{where}: reproducible_batch_size ({fixed}) must be one of batch_sizes ({', '.join(map(str, sizes))})",
            model,
        )


def _of_lengths(model: ModelConfig) -> Iterator[Contradiction]:
    tokens, where = model.max_batch_tokens, f"model {model.name!r}"
    if tokens and not model.lengths:
        yield Contradiction(
            "max_batch_tokens",
            f"{where}: max_batch_tokens is for rows that vary in length: set lengths, or bound the rows of a batch "
            "with max_batch_size",
            model,
        )
    least = (model.batch_sizes[0] if model.batch_sizes else 1) * (model.lengths[-1] if model.lengths else 0)
    if tokens and tokens < least:
        yield Contradiction(
            "max_batch_tokens",
            f"{where}: max_batch_tokens ({tokens}) must be at least {least}: a batch of the longest rows that may run, "
            f"{least // model.lengths[-1]} of {model.lengths[-1]}, would be larger",
            model,
        )


def _of_device(model: ModelConfig) -> Iterator[Contradiction]:
    where = f"model {model.name!r}"
    # The 64th slot of a ring is the quarantine worker's.
    if model.workers > 63:
        yield Contradiction(
            "instances",
            f"{where}: {model.instances} instances on each of {model.workers // model.instances} GPUs are "
            f"{model.workers} workers, and 63 are the most: lower instances, or name a GPU",
            model,
        )
    if model.precision != Precision.FLOAT32 and model.device == CPU:
        yield Contradiction(
            "precision",
            f"{where}: precision = '{model.precision}' is for models on a device, and device is 'cpu': give "
            "device = 'cuda:0', or leave precision out",
            model,
        )


def _of_group(models: Sequence[ModelConfig]) -> Iterator[Contradiction]:
    first = models[0]
    if len(models) > GROUP_MODELS_MAX:
        yield Contradiction(
            "group",
            f"group {first.group!r} has {len(models)} models: a worker process serves at most {GROUP_MODELS_MAX}; "
            "make two groups of it",
            first,
        )
    for other in models[1:]:
        for name in _OF_THE_PROCESS:
            if getattr(other, name) != getattr(first, name):
                yield Contradiction(
                    name,
                    f"group {first.group!r}: models {first.name!r} and {other.name!r} differ in {name}, which belongs "
                    "to the worker processes that they share: give both the same",
                    other,
                )
