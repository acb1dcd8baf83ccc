"""How records travel from the server to the process that exports them."""

from __future__ import annotations

from penstock.native._dataplane import TAP_RECORD_BYTES

__all__ = ["PACKET_BYTES_MAX", "RECORD_BYTES"]

RECORD_BYTES = TAP_RECORD_BYTES
# A packet is sent whole or not at all, and must fit the socket's buffer.
PACKET_BYTES_MAX = 48 * RECORD_BYTES
