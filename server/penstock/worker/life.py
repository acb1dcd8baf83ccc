"""The life of a worker, from its first message to its exit status."""

from __future__ import annotations

import logging
import os
import socket
import threading

from penstock.core.errors import ModelLoadError
from penstock.worker.fault import ModelFaultError
from penstock.worker.limits import limit_this_process, out_of_memory
from penstock.worker.messages import Failed, Load, ProtocolError
from penstock.worker.placement import place_this_process
from penstock.worker.priority import back_to_normal, become_idle
from penstock.worker.protocol import receive, send

__all__ = ["work"]

logger = logging.getLogger("penstock.worker")

IDLE_SECONDS_MAX = 10.0


def work(control: socket.socket) -> int:
    """Serve the supervisor at the other end of `control` until it says stop or is gone; the process's exit status."""
    try:
        received = receive(control)
        if received is None:
            return 0
        load, _ = received
        if not isinstance(load, Load):
            raise ProtocolError(f"expected the message to load models, not {type(load).__name__}")
        _load_and_serve(control, load)
        return 0
    except (ModelLoadError, ProtocolError) as error:
        logger.debug("loading failed", exc_info=error)
        send(control, Failed(str(error), error.model if isinstance(error, ModelFaultError) else None))
        return 1


def _end_idleness_after(seconds: float) -> None:
    """Load at normal priority after a while: on a machine without time to spare an idle load would never end."""
    timer = threading.Timer(seconds, back_to_normal)
    timer.daemon = True
    timer.start()


def _load_and_serve(control: socket.socket, load: Load) -> None:
    place_this_process(load.placement)
    limit_this_process(load.memory_bytes)
    idle = load.idle and become_idle()
    if idle:
        _end_idleness_after(IDLE_SECONDS_MAX)
    try:
        # Not before: NumPy starts threads when it is imported, and only later ones inherit placement and priority.
        from penstock.worker.device_errors import DeviceLostError
        from penstock.worker.loop import load_and_serve

        try:
            load_and_serve(control, load, idle=idle)
        except DeviceLostError as error:
            # Whatever the process held is the supervisor's to run again. At once: when the interpreter ends, libraries
            # give their memory back to the device, which may never answer.
            logger.critical("the device is lost, and the worker ends: %s", error)
            os._exit(1)
    except (MemoryError, ImportError) as error:  # no model's, but of a worker that has hardly any memory
        told = out_of_memory(error, load.memory_bytes)
        if told is None:
            raise
        raise told from error
