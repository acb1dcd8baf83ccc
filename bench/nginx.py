"""The yardstick for HTTP: nginx with one worker that answers a fixed body."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from bench.workloads import Encoding

__all__ = ["nginx"]

TEMPLATE = Path(__file__).with_name("nginx.conf")
START_SECONDS = 10.0


@contextmanager
def nginx(folder: Path, body_bytes: int, encoding: Encoding) -> Iterator[tuple[int, int]]:
    """Run nginx answering bodies of this size; gives (process id, port)."""
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise RuntimeError("nginx is not installed: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    port = _free_port()
    settings = {
        "folder": folder.resolve(),
        "port": port,
        "body": "x" * body_bytes,
        "media_type": encoding.media_type,
        # The default user may not enter `folder`.
        "user": "user root;" if os.geteuid() == 0 else "",
    }
    configuration = folder / "nginx.conf"
    configuration.write_text(Template(TEMPLATE.read_text()).substitute(settings))
    command = [program, "-p", str(folder), "-c", str(configuration.resolve())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(port, process)
        yield process.pid, port
    finally:
        process.terminate()
        process.communicate(timeout=START_SECONDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Wait until nginx listens; it has no way to say so."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {process.communicate()[1]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError("nginx did not listen in time")
