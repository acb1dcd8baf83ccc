"""`python -m penstock.telemetry`: the process that exports traces. The server starts it, and it ends with the server.

It reads packets of records from a socket and sends spans to the collector. What it cannot send in time it drops and
counts: the server never waits for it, whatever the collector does. While nothing is traced it sleeps.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from penstock import __version__
from penstock.core.log_lines import log_to_stderr
from penstock.native._dataplane import SpanEncoder
from penstock.telemetry.environment import destination_of, resource_of
from penstock.telemetry.export import Collector
from penstock.telemetry.packets import PACKET_BYTES_MAX, RECORD_BYTES
from penstock.telemetry.waiting import Waiting

_WAITING_MAX = 8192
_BATCH_RECORDS_MAX = 1024
_INTERVAL_S = 1.0
# For what is left when the server has ended.
_LAST_SECONDS = 2.0


def main() -> None:
    """Export until the other end of the socket is closed."""
    parser = argparse.ArgumentParser(prog="penstock.telemetry")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--endpoint")
    parser.add_argument("--service-name")
    arguments = parser.parse_args()
    # The server's own signals reach its children, too, from a terminal or a service manager; what it answers until it
    # ends shall still be exported.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log_to_stderr()
    with socket.socket(fileno=arguments.socket_fd) as source:
        try:
            collector = Collector(destination_of(arguments.endpoint, os.environ))
        except (OSError, ValueError) as error:
            sys.exit(f"traces cannot be exported: {error}")
        resource = resource_of(arguments.service_name, arguments.parent, os.environ)
        waiting = Waiting(_WAITING_MAX)
        threading.Thread(target=_read, args=(source, waiting), daemon=True).start()
        _export(source, waiting, SpanEncoder(list(resource.items()), __version__), collector)


def _read(source: socket.socket, waiting: Waiting) -> None:
    while True:
        try:
            packet = source.recv(PACKET_BYTES_MAX)
        except OSError:
            packet = b""
        if not packet:
            break
        waiting.put(packet)
    waiting.close()
    # A collector that hangs keeps the main thread.
    threading.Timer(_LAST_SECONDS, os._exit, (0,)).start()


def _export(source: socket.socket, waiting: Waiting, encoder: SpanEncoder, collector: Collector) -> None:
    exported = failed = 0
    while (records := waiting.take(_BATCH_RECORDS_MAX, _INTERVAL_S)) is not None:
        count = len(records) // RECORD_BYTES
        if collector.send(encoder.encode(records)):
            exported += count
        else:
            failed += count
        counts = {"exported": exported, "dropped": failed + waiting.dropped}
        with suppress(OSError):  # a server that does not read them, or has ended
            source.send(json.dumps(counts).encode(), socket.MSG_DONTWAIT)
    os._exit(0)  # whatever the timer is doing


if __name__ == "__main__":
    main()
