"""Triton Inference Server: the real one, which the wheel of nvidia-pytriton carries, without PyTriton around it."""

from bench.peers.triton.native import TritonNative
from bench.peers.triton.python import TritonPython

__all__ = ["TritonNative", "TritonPython"]
