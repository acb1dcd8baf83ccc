"""A worker process: it loads the models of one group, takes batches from their rings and completes them."""

from penstock.worker.model import Tensor

__all__ = ["Tensor"]
