"""The yardstick for HTTP: nginx with one worker that reads the request and answers a fixed body."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from bench.peers.environment import Process, answers, free_port
from bench.targets import Batches, NotInstalledError
from penstock.load.dialects import Dialect, PenstockJson

__all__ = ["Nginx", "NginxTarget"]

TEMPLATE = Path(__file__).with_name("nginx.conf")
# As long as Penstock's answer to W1 in JSON.
BODY_BYTES = 84


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx. Its answers are no answers: it computes nothing."""

    pid: int
    address: str
    dialect: Dialect

    def batches(self, model: str) -> Batches | None:
        """There are none."""
        return None


@dataclass(frozen=True, slots=True)
class NginxTarget:
    """What HTTP alone costs on this machine."""

    body_bytes: int = BODY_BYTES
    dialect: Dialect = field(default_factory=PenstockJson)
    name: str = "nginx"

    def install(self, environments: Path) -> Mapping[str, str]:
        """Look for it; NotInstalledError when it is not there."""
        shown = subprocess.run([_program(), "-v"], capture_output=True, text=True, check=True).stderr
        return {"nginx": shown.strip().rpartition("/")[2]}

    @contextmanager
    def serve(self, models: Mapping[str, Path], folder: Path) -> Iterator[Nginx]:
        """Serve until the block ends."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        settings = {
            "folder": folder.resolve(),
            "port": port,
            "body": "x" * self.body_bytes,
            # The default user may not enter `folder`.
            "user": "user root;" if os.geteuid() == 0 else "",
        }
        configuration = folder / "nginx.conf"
        configuration.write_text(Template(TEMPLATE.read_text()).substitute(settings))
        command = [_program(), "-p", str(folder.resolve()), "-c", str(configuration.resolve())]
        with Process(command, folder, name="nginx") as process:
            process.wait_for(lambda: answers(port, "/"))
            yield Nginx(process.pid, f"127.0.0.1:{port}", self.dialect)


def _program() -> str:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        raise NotInstalledError("nginx is not installed: apt-get install nginx-light")
    return program
