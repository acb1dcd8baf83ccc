"""What a GPU does under Penstock: `python -m bench.gpu --help`. Needs PyTorch and the kernels, and no server."""

import os

__all__: list[str] = []

# Before PyTorch is imported: on a GPU the host computes nothing, and where the host stands for a device its one thread
# must not wait for helpers that have no core.
os.environ.setdefault("OMP_NUM_THREADS", "1")
