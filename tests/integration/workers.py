"""The workers of a running server, as its control plane tells them; and their deaths."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.serving import Server

__all__ = ["eventually", "kill_worker", "restarts", "workers"]

DEADLINE_SECONDS = 300.0


def workers(server: Server, model: str) -> list[dict[str, Any]]:
    """What the control plane says of a model's workers."""
    versions = server.request("GET", f"/models/{model}").json()["versions"]
    return [worker for version in versions for worker in version["workers"]]


def restarts(server: Server, model: str) -> int:
    return sum(worker["restarts"] for worker in workers(server, model))


def eventually(holds: Callable[[], bool]) -> None:
    """Look again and again; each look asks the server something."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"


def kill_worker(server: Server, model: str) -> None:
    """Kill a model's first worker once it is ready, and wait for its successor to be started."""
    before = restarts(server, model)
    eventually(lambda: workers(server, model)[0]["state"] == "ready")
    os.kill(workers(server, model)[0]["pid"], signal.SIGKILL)
    eventually(lambda: restarts(server, model) > before)
