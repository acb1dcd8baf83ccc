"""A worker process: it loads one model, takes batches from the model's ring and completes them."""

from penstock.worker.model import Tensor

__all__ = ["Tensor"]
