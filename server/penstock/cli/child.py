"""`python -m penstock.cli.child DESCRIPTOR FOLDER ARGUMENTS...`: a `penstock` that ends with whoever started it.

The descriptor is the reading end of a pipe whose writing end the starter holds. It closes with the starter, however
that ends; this process is then told to stop as by SIGTERM, and removes the folder, which nobody else will.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading

from penstock.cli import main

__all__: list[str] = []


def _end_with(descriptor: int) -> threading.Event:
    os.set_inheritable(descriptor, False)  # workers must not hold it
    alone = threading.Event()

    def wait() -> None:
        os.read(descriptor, 1)
        alone.set()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="end-with-starter", daemon=True).start()
    return alone


def _main() -> None:
    alone = _end_with(int(sys.argv[1]))
    folder = sys.argv[2]
    sys.argv = ["penstock", *sys.argv[3:]]
    try:
        main()
    finally:
        if alone.is_set():
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _main()
