"""What the supervisor and a worker say to each other.

One JSON object per packet of a SOCK_SEQPACKET socket pair, descriptors beside it (SCM_RIGHTS). In order:

    supervisor                      worker
    Load              ->
                      <-            Loaded, once for each model, in the order of Load; or Failed
    Attach + rings, loop descriptors ->
                      <-            Measured, once for each model that was; or Failed
                      <-            Ready (warmed up; it takes batches from now on)
    Stop              ->            finishes its batch and exits

A worker runs a user's code and is not trusted: whatever does not parse is a ProtocolError.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from penstock.worker.messages import (
    Message,
    ProtocolError,
)
from penstock.worker.packets import from_packet, to_packet

__all__ = ["receive", "send"]

# Below the default send buffer (about 208 KiB), so that a packet always fits an empty socket.
PACKET_BYTES_MAX = 128 * 1024
DESCRIPTORS_MAX = 128  # the rings of a group and 64 I/O loops; the kernel's own bound is 253


def send(control: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message; OSError when the other side is gone, ProtocolError when the message is too large."""
    packet = to_packet(message)
    if len(packet) > PACKET_BYTES_MAX:
        raise ProtocolError(f"a message of {len(packet)} bytes is too large (at most {PACKET_BYTES_MAX})")
    socket.send_fds(control, [packet], list(descriptors))


def receive(control: socket.socket) -> tuple[Message, list[int]] | None:
    """Receive one message and its descriptors, which the caller owns; None when the other side has closed.

    ProtocolError for anything that is no message; descriptors that came with it are closed.
    """
    packet, descriptors, flags, _ = socket.recv_fds(control, PACKET_BYTES_MAX, DESCRIPTORS_MAX)
    try:
        if not packet:
            return None
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ProtocolError("a message was cut short")
        message = from_packet(packet)
    except ProtocolError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return message, descriptors
