"""Flask on gevent: the WSGI way without a serving framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.peers.package import PackageTarget, Place

__all__ = ["Flask"]


class Flask(PackageTarget):
    """The second baseline without batching: every request is a batch of one.

    Chosen: gevent's pywsgi, one process, no access log, TCP_NODELAY (without it 23 requests/s a connection).
    """

    name = "flask"
    folder = Path(__file__).parent
    packages = ("flask", "gevent", "werkzeug")

    def command(self, place: Place) -> Sequence[str]:
        """Start the application."""
        return [str(place.python), str(self.folder / "serving" / "app.py"), str(place.port)]
