"""The process beside: `python -m bench.gpu.worker NETWORK DEVICE RING_FD EVENT_FD`, until its input is closed."""

from __future__ import annotations

import gc
import select
import sys
import time

from bench.gpu.networks import NETWORKS
from bench.gpu.placed import place_network
from penstock.native._batcher import Taker
from penstock.worker.batch import BatchRunner
from penstock.worker.devices import close_devices, open_device
from penstock.worker.devices.pipeline import Pipeline

__all__: list[str] = []


def main(network: str, device: str, ring: int, event: int) -> None:
    """Serve the ring."""
    taker = Taker([ring], [event], 0)
    backend, _ = place_network(NETWORKS[network], open_device(device))
    backend.prepare(taker.max_batch_size(), taker.batch_sizes(), ())
    pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
    gc.collect()
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    look = time.monotonic()
    while True:
        pipeline.turn(50)
        if time.monotonic() >= look:
            look = time.monotonic() + 0.1
            if select.select([sys.stdin], [], [], 0)[0]:
                pipeline.finish()
                close_devices()
                return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
