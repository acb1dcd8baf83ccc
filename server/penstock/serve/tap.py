"""Takes what the data plane's tap has, out of band: lines to the access log, records to the export of traces."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.config import ServerConfig
from penstock.serve.access_log import AccessLog
from penstock.serve.hangup import on_hangup
from penstock.serve.trace_process import TraceProcess

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["TapDrain", "samples_of", "start_tap"]

# While the exporter is behind: a loop's ring holds 8,192 records.
_INTERVAL_S = 0.05
# Else the tap is emptied when there is much in it, and after so long: to wake for a few costs more than they do.
_PATIENCE_MS = 250
_STOP_SECONDS = 10.0
_THREAD_NAME = "penstock-tap"
_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def samples_of(config: ServerConfig) -> tuple[float | None, float | None]:
    """What the engine samples for traces and for the access log; None where there is none."""
    return (
        config.trace_sample if _is_traced(config) else None,
        config.access_log_sample if config.access_log != "off" else None,
    )


def start_tap(config: ServerConfig, engine: Engine, cleanup: ExitStack) -> TapDrain | None:
    """Start what the settings ask for; None when they ask for nothing. ConfigError for what cannot be.

    To be called by the main thread: SIGHUP has the access log opened anew.
    """
    trace_sample, log_sample = samples_of(config)
    if trace_sample is None and log_sample is None:
        return None
    traces = None
    if trace_sample is not None:
        traces = TraceProcess(config.trace_endpoint, config.trace_service_name)
    access_log = None
    if log_sample is not None:
        access_log = AccessLog(config.access_log)
        access_log.start()
        cleanup.callback(access_log.stop)
        if access_log.is_file:
            cleanup.enter_context(on_hangup(access_log.reopen))
    drain = TapDrain(engine, access_log, traces)
    drain.start()
    cleanup.callback(drain.stop)
    return drain


class TapDrain:
    """A thread that empties the tap until stop()."""

    def __init__(self, engine: Engine, access_log: AccessLog | None, traces: TraceProcess | None) -> None:
        self._engine = engine
        self._access_log = access_log
        self._traces = traces
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Take from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Take what is left, let it be exported, and end."""
        self._stopping.set()
        self._thread.join(_STOP_SECONDS)

    def counts(self) -> Mapping[str, int]:
        """What became of what was taken. Any thread."""
        counts: dict[str, int] = {}
        if self._access_log is not None:
            counts |= {
                "access_log_lines": self._access_log.written,
                "access_log_dropped": self._access_log.dropped,
            }
        if self._traces is not None:
            counts |= {
                "traces_exported": self._traces.exported,
                "traces_dropped": self._traces.dropped,
                "trace_exporter_restarts": self._traces.restarts,
            }
        return counts

    def _run(self) -> None:
        # Python names threads for itself alone; top and `python -m bench traces` shall see it, too.
        with suppress(OSError):
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(_THREAD_NAME)
        while not self._stopping.is_set():
            if self._traces is not None:
                self._traces.tend()
            self._take()
            self._wait()
        self._take()
        if self._traces is not None:
            self._traces.stop()

    def _wait(self) -> None:
        if self._traces is not None and self._traces.is_behind:
            self._traces.send_until(time.monotonic() + _INTERVAL_S)
        else:
            self._engine.await_tap(_PATIENCE_MS)

    def _take(self) -> None:
        lines, count, records = self._engine.drain_tap()
        if count and self._access_log is not None:
            self._access_log.put(lines, count)
        if records and self._traces is not None:
            self._traces.send(records)


def _is_traced(config: ServerConfig) -> bool:
    if config.trace_endpoint is not None:
        return True
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not disabled and any(os.environ.get(name) for name in _ENDPOINT_VARIABLES)
