"""How records travel from the server to the process that exports them."""

from __future__ import annotations

from penstock.native._dataplane import TAP_RECORD_BYTES

__all__ = ["PACKET_BYTES_MAX", "RECORD_BYTES"]

RECORD_BYTES = TAP_RECORD_BYTES
# A packet is sent whole or not at all. Two fit the buffer that a socket gets (net.core.wmem_max, 208 KiB, doubled);
# each wakes the other side, which costs more than what is in it.
PACKET_BYTES_MAX = 160 * RECORD_BYTES
