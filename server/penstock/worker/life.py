"""The life of a worker, from its first message to its exit status."""

from __future__ import annotations

import logging
import os
import socket

from penstock.core.errors import ModelLoadError
from penstock.worker.fault import ModelFaultError
from penstock.worker.limits import limit_this_process, out_of_memory
from penstock.worker.messages import Failed, Load, ProtocolError
from penstock.worker.placement import place_this_process
from penstock.worker.priority import is_idle
from penstock.worker.protocol import receive, send

__all__ = ["work"]

logger = logging.getLogger("penstock.worker")


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


def _load_and_serve(control: socket.socket, load: Load) -> None:
    place_this_process(load.placement)
    limit_this_process(load.memory_bytes)
    idle = load.idle and is_idle()
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
