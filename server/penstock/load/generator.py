"""Runs a load: the native generator, with a callback while it goes on."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ConfigError, LoadError
from penstock.load.corpus import Corpus
from penstock.load.recording import RECORD, Answer, Recording
from penstock.load.schedule import ARRIVALS_MAX, Schedule
from penstock.native._loadgen import Generator

__all__ = ["Address", "ClosedLoop", "Load", "Progress", "run_load"]

LEAD_SECONDS = 0.02
POLL_SECONDS = 0.05
SPARE_DESCRIPTORS = 64
CLOSED_LOOP_PICKS = 1 << 16


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server answers: a host and a port, or a Unix socket's path with port 0."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host:port", "http://host:port" or "unix:/path"; ConfigError for anything else."""
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(text.removeprefix("unix:"), 0)
        plain = text.removeprefix("http://").rstrip("/")
        host, colon, port = plain.rpartition(":")
        is_port = port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16
        if "//" in plain or not colon or not host or not is_port:
            raise ConfigError(f"{text!r} is no address: write http://HOST:PORT or unix:/PATH")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        if self.port == 0:
            return f"unix:{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """Each connection sends again as soon as it has its replies: finds the capacity, and says little of latency."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, when, and over what. The first `warm_up` seconds are not measured."""

    address: Address
    corpus: Corpus
    arrivals: Schedule | ClosedLoop
    connections: int = 64
    depth: int = 1
    threads: int = 1
    warm_up: float = 1.0
    timeout: float = 10.0
    spin_us: float = 0.0
    seed: int = 1

    @property
    def seconds(self) -> float:
        """Time in which requests are due, the warm-up included."""
        return self.arrivals.seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run; `seconds` since its start, negative before it."""

    seconds: float
    sent: int
    answered: int
    failed: int


def run_load(load: Load, watch: Callable[[Progress], None] = lambda _: None) -> Recording:
    """Run to the end, calling `watch` about 20 times a second; LoadError when the server cannot be reached."""
    _raise_descriptor_limit(load.connections + SPARE_DESCRIPTORS)
    generator = _generator(load)
    try:
        started_ns = generator.start(int(LEAD_SECONDS * 1e9))
    except RuntimeError as error:
        raise LoadError(f"{load.address}: {error}") from error
    try:
        while not generator.is_done():
            sent, answered, failed, _ = generator.totals()
            if sent > ARRIVALS_MAX:
                raise LoadError(f"a run of more than {ARRIVALS_MAX:,} requests: take less time")
            watch(Progress((time.monotonic_ns() - started_ns) / 1e9, sent, answered, failed))
            time.sleep(POLL_SECONDS)
    finally:
        generator.stop()
        _join(generator)
    return Recording(
        corpus=load.corpus,
        records=generator.records().view(RECORD).reshape(-1),
        answers=[Answer(*answer) for answer in generator.answers()],
        seconds=load.seconds,
        warm_up=load.warm_up,
        open_loop=isinstance(load.arrivals, Schedule),
        started_ns=started_ns,
        unkept_answers=generator.unkept_answers(),
        reconnects=generator.totals()[3],
        generator_cpu_seconds=generator.cpu_ns() / 1e9,
    )


def _join(generator: Generator) -> None:
    try:
        generator.join()
    except (RuntimeError, MemoryError) as error:
        raise LoadError(f"the load generator could not go on: {error}") from error


def _generator(load: Load) -> Generator:
    if not 0 <= load.warm_up < load.seconds:
        raise ConfigError(f"a warm-up of {load.warm_up:g} s leaves nothing of {load.seconds:g} s to measure")
    if not load.corpus.traffics:
        raise ConfigError("there is no request to send: the load has no traffic")
    is_open = isinstance(load.arrivals, Schedule)
    due_ns = load.arrivals.due_ns if isinstance(load.arrivals, Schedule) else None
    if due_ns is not None and not len(due_ns):
        raise ConfigError("the schedule holds no request: raise the rate or the time")
    try:
        return Generator(
            host=load.address.host,
            port=load.address.port,
            requests=load.corpus.requests,
            offsets=load.corpus.offsets,
            picks=_picks(load),
            due_ns=due_ns,
            connections=load.connections,
            depth=load.depth,
            threads=load.threads,
            duration_ns=0 if is_open else int(load.seconds * 1e9),
            timeout_ns=int(load.timeout * 1e9),
            spin_ns=int(load.spin_us * 1e3),
        )
    except ValueError as error:
        raise ConfigError(f"the load makes no sense: {error}") from error
    except RuntimeError as error:
        raise LoadError(str(error)) from error


def _picks(load: Load) -> NDArray[np.uint32]:
    if not isinstance(load.arrivals, Schedule):
        return load.corpus.picks(CLOSED_LOOP_PICKS, load.seed)
    return load.corpus.picks(len(load.arrivals.due_ns), load.seed, load.arrivals.kinds)


def _raise_descriptor_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise ConfigError(f"{wanted} descriptors are needed and {hard} allowed: raise `ulimit -n`")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
