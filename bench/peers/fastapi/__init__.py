"""FastAPI on uvicorn: what one gets without a serving framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.peers.package import PackageTarget, Place

__all__ = ["FastApi"]


class FastApi(PackageTarget):
    """The baseline without batching: every request is a batch of one.

    Chosen: uvicorn with uvloop and httptools, one process, no access log; the model runs on the event loop.
    """

    name = "fastapi"
    folder = Path(__file__).parent
    packages = ("fastapi", "uvicorn", "uvloop", "pydantic")

    def command(self, place: Place) -> Sequence[str]:
        """Start the application."""
        return [str(place.python), str(self.folder / "serving" / "app.py"), str(place.port)]
