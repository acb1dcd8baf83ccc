"""The life of `penstock serve`: bind, load, announce, serve until told to stop, drain."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from penstock.core.config import LogFormat, ServerConfig
from penstock.core.errors import ConfigError, WorkerError
from penstock.core.log_lines import FORMAT_VARIABLE
from penstock.core.status import ModelStatus
from penstock.registry.places import data_folder
from penstock.serve.addresses import listen
from penstock.serve.banner import public_url, render_banner
from penstock.serve.certificate import encrypt, follow_certificate
from penstock.serve.content import with_content
from penstock.serve.logs import LogWriter
from penstock.serve.placement import check_placement, place_io_threads
from penstock.serve.preflight import check_readable
from penstock.serve.registered import Registered, follow_registry, open_registry
from penstock.serve.second_level import start_second_level
from penstock.serve.supervisor import Supervisor
from penstock.serve.tap import samples_of, start_tap

if TYPE_CHECKING:
    from penstock.control.bridge import AsyncBridge
    from penstock.control.hub import HubEvent
    from penstock.native._dataplane import Engine

__all__ = ["serve"]

_log = logging.getLogger("penstock.serve")

# Whoever started us may pass the number of an open descriptor: it gets one JSON line when we are ready.
_READY_VARIABLE = "PENSTOCK_READY_FD"
_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Python's default of 5 ms is how long a busy thread keeps the GIL from one that wants it. The hub and the supervisor
# share it; both do little, so that switching often costs nothing and neither waits for the other.
_SWITCH_INTERVAL_S = 2e-4
# Descriptors besides connections: rings, workers, control calls, libraries.
_OTHER_DESCRIPTORS = 256


def serve(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT; a second signal ends the process at once.

    To be called by the main thread. Raises ListenError or ModelLoadError when the start fails; by then nothing is left
    behind: no child, no file.
    """
    ready_fd = _take_ready_descriptor()
    check_placement(config)
    for model in config.models:
        check_readable(model)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    with ExitStack() as cleanup:
        writer = LogWriter(config.log_format, config.log_level)
        writer.start()
        os.environ[FORMAT_VARIABLE] = config.log_format  # for the processes that are started
        cleanup.callback(writer.stop)
        _raise_descriptor_limit(config)
        folder = _make_runtime_folder()
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        _run(config, folder, writer, ready_fd, cleanup)


def _run(config: ServerConfig, folder: Path, writer: LogWriter, ready_fd: int | None, cleanup: ExitStack) -> None:
    # Not at the top: `penstock version` and a wrong setting need neither gevent nor the native module.
    from penstock.control.app import make_app
    from penstock.control.bridge import AsyncBridge
    from penstock.control.hub import HubEvent
    from penstock.control.server import ControlServer
    from penstock.control.state import ServerState

    control_socket = folder / "control.sock"
    engine = _make_engine(config, control_socket)
    cleanup.callback(engine.stop)
    # First of all: a busy port must not cost anybody the loading of models.
    encrypt(engine, config.tls_cert, config.tls_key)
    port, grpc_port = listen(engine, config)
    fast_path = folder / "predict.sock"
    engine.listen_private(str(fast_path))
    stop = cleanup.enter_context(_stop_signals(HubEvent(), folder))
    tap = start_tap(config, engine, cleanup)
    start_second_level(config, engine, cleanup)
    bridge = AsyncBridge()
    bridge.start()
    cleanup.callback(bridge.stop)
    registry, why_not = open_registry(config, bridge, cleanup)
    supervisor = Supervisor(engine, with_content(config), scheduling=config.scheduling, hold=True, on_crash=stop.set)
    registered = follow_registry(config, port, registry, supervisor, engine) if registry is not None else None
    # Before anybody can connect: until then nothing needs a key.
    if registered is not None:
        bridge.call(registered.lifecycle.keys_changed())
    else:
        engine.set_keys([], require_key=config.require_key, development=config.development)
    state = ServerState(
        stats=engine,
        models=supervisor if registered is None else registered.lifecycle,
        log_records_dropped=lambda: writer.dropped,
        tap_counts=None if tap is None else tap.counts,
        registry=registry,
        lifecycle=None if registered is None else registered.lifecycle,
        bridge=bridge,
        registry_failure=why_not,
        development=config.development,
        uploads=data_folder(config) / "uploads",
        fast_path=fast_path,
    )
    control = ControlServer(make_app(state), control_socket)
    control.start()
    cleanup.callback(control.stop)
    engine.start()
    cleanup.enter_context(follow_certificate(engine, config.tls_cert, config.tls_key))
    place_io_threads(config.io_cpus)
    cleanup.callback(supervisor.stop)
    supervisor.start()
    _log.info("loading", extra={"url": _url(config, port), "models": len(config.models)})
    if _wait_loaded(supervisor, stop) and _follow(registered, config, bridge, stop, cleanup):
        supervisor.release().result()
        _announce(config, port, grpc_port, state.models.models(), ready_fd)
        stop.wait()
    bridge.drain()
    _drain(engine, config.drain_timeout_s)
    if supervisor.crash is not None:
        raise WorkerError(f"{supervisor.crash}; the log has where, and whoever keeps this server alive starts it again")


def _make_engine(config: ServerConfig, control_socket: Path) -> Engine:
    from penstock.native._dataplane import Engine, codings_taken

    if config.compress and codings_taken() == "identity":
        raise ConfigError(
            "compress is on, and this Penstock was built without zlib and zstd: install the headers of one "
            "(zlib1g-dev, libzstd-dev) and build it again"
        )
    trace_sample, access_log_sample = samples_of(config)
    return Engine(
        io_threads=config.io_threads,
        decode_threads=config.decode_threads,
        max_connections=config.max_connections,
        reserved_connections=config.reserved_connections,
        head_bytes_max=config.head_bytes_max,
        control_body_bytes_max=config.control_body_bytes_max,
        body_pool_bytes=config.body_pool_bytes,
        idle_timeout_ms=config.idle_timeout_ms,
        head_timeout_ms=config.head_timeout_ms,
        body_timeout_ms=config.body_timeout_ms,
        write_timeout_ms=config.write_timeout_ms,
        request_timeout_ms=config.request_timeout_ms,
        cache_bytes=config.cache_bytes,
        control_socket=str(control_socket),
        cors_origins=list(config.cors_origins),
        compress=config.compress,
        compress_min_bytes=config.compress_min_bytes,
        second_level_timeout_ms=config.cache_redis_timeout_ms if config.cache_redis is not None else 0,
        trace_sample=trace_sample,
        access_log_sample=access_log_sample,
    )


def _wait_loaded(supervisor: Supervisor, stop: HubEvent) -> bool:
    """Let the hub serve until every model is ready; False when a signal came first. Raises what stops the start."""
    from penstock.control.hub import HubEvent

    settled = HubEvent()
    failures: list[Exception] = []

    def wait() -> None:
        try:
            supervisor.wait_ready()
        except Exception as failure:
            failures.append(failure)
        settled.set()

    threading.Thread(target=wait, name="penstock-start", daemon=True).start()
    HubEvent.wait_any(settled, stop)
    if stop.is_set():
        return False
    if failures:
        raise failures[0]
    return True


def _follow(
    registered: Registered | None, config: ServerConfig, bridge: AsyncBridge, stop: HubEvent, cleanup: ExitStack
) -> bool:
    """Let the hub serve until everything is loaded that the registry wants; False when a signal came first."""
    if registered is None:
        return True
    from penstock.control.hub import HubEvent

    settled = HubEvent()
    started = asyncio.run_coroutine_threadsafe(registered.following.start(config.preload), bridge.loop)
    started.add_done_callback(lambda _: settled.set())
    cleanup.callback(lambda: bridge.finish(registered.following.stop()))
    HubEvent.wait_any(settled, stop)
    if stop.is_set():
        started.cancel()
        return False
    started.result()
    return True


def _url(config: ServerConfig, port: int) -> str:
    return public_url(config.host, port, "http" if config.tls_cert is None else "https")


def _announce(
    config: ServerConfig, port: int, grpc_port: int | None, models: Sequence[ModelStatus], ready_fd: int | None
) -> None:
    url = _url(config, port)
    if config.log_format == LogFormat.TEXT:
        color = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        sys.stderr.write(
            render_banner(
                url,
                models,
                unix_socket=config.unix_socket,
                grpc_port=grpc_port,
                development=config.development,
                color=color,
            )
        )
        sys.stderr.flush()
    labels = [f"{status.config.name} {status.config.version}" for status in models]
    _log.info("ready", extra={"url": url, "grpc_port": grpc_port, "models": labels})
    if ready_fd is not None:
        line = json.dumps({"event": "ready", "address": config.host, "port": port, "grpc_port": grpc_port}) + "\n"
        try:
            os.write(ready_fd, line.encode())
            os.close(ready_fd)
        except OSError as error:
            _log.warning("nobody reads the ready descriptor", extra={"reason": error.strerror})


def _drain(engine: Engine, timeout_s: float) -> None:
    """Answer what was accepted, refuse the rest."""
    from penstock.control.hub import wait_until

    _log.info("draining", extra={"timeout_s": timeout_s})
    engine.set_ready(False)
    engine.drain()
    if wait_until(engine.drained, timeout_s):
        _log.info("drained")
    else:
        _log.warning("not every request was answered before the drain timeout; their connections are cut")


@contextmanager
def _stop_signals(stop: HubEvent, folder: Path) -> Iterator[HubEvent]:
    """Let the first signal set `stop`, and the second one end the process, whose workers the kernel then kills."""
    from penstock.control.hub import heard_signals

    heard = False

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal heard
        if heard:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(128 + number)
        # Nothing else: a handler runs anywhere, also while this thread holds the log's lock.
        heard = True
        stop.set()

    with heard_signals():
        before = {number: signal.signal(number, on_signal) for number in _STOP_SIGNALS}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _make_runtime_folder() -> Path:
    """Make a folder that only this user can enter, for the private socket."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    usable = os.path.isabs(base) and os.access(base, os.W_OK | os.X_OK)
    return Path(tempfile.mkdtemp(prefix="penstock-", dir=base if usable else "/tmp"))  # mkdtemp makes it 0700


def _raise_descriptor_limit(config: ServerConfig) -> None:
    """Allow this process as many descriptors as it may have; the default of 1,024 is fewer than connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        _log.warning("the limit on descriptors stays as it is", extra={"limit": soft, "reason": str(error)})
        hard = soft
    needed = config.max_connections + _OTHER_DESCRIPTORS
    if hard != resource.RLIM_INFINITY and hard < needed:
        _log.warning(
            "fewer descriptors than max_connections needs: raise the limit (ulimit -n) or lower max_connections",
            extra={"limit": hard, "needed": needed},
        )


def _take_ready_descriptor() -> int | None:
    """Read the variable and remove it, so that no child takes it for its own."""
    raw = os.environ.pop(_READY_VARIABLE, "")
    if not raw.isdecimal():
        return None
    os.set_inheritable(int(raw), False)
    return int(raw)
