"""LitServe, with batching."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.peers.package import PackageTarget, Place

__all__ = ["LitServe"]


class LitServe(PackageTarget):
    """Batches of up to 64 rows within 1 ms, one worker process a model.

    Chosen: its fast queue (ZeroMQ instead of a shared queue for the answers), its own number of
    front-end processes (one a model), no access log.
    """

    name = "litserve"
    folder = Path(__file__).parent
    packages = ("litserve", "fastapi", "pyzmq", "uvicorn", "uvloop")
    ready_path = "/health"

    def command(self, place: Place) -> Sequence[str]:
        """Start the application."""
        return [str(place.python), str(self.folder / "serving" / "app.py"), str(place.port)]
