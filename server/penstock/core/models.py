"""What is said about models between the control plane and whoever loads them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Mirror"]


@dataclass(frozen=True, slots=True)
class Mirror:
    """How a new version is compared with the old one on live requests before it takes them over.

    `share` of the requests, over 0 and at most 1, are run by both until `rows` of them have been compared, or until
    `timeout_s` has passed. Two outputs agree where |new - old| <= atol + rtol * |old|.
    """

    share: float = 0.1
    rows: int = 100
    rtol: float = 1e-4
    atol: float = 1e-6
    timeout_s: float = 60.0
