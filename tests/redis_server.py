"""A Redis of our own for tests: started on a free port, killed, stopped and started again as a test likes."""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

from tests.integration.supervised import until
from tests.ports import lasting_port

__all__ = ["Redis", "redis_server"]


@dataclass
class Redis:
    """A Redis that keeps nothing on disk."""

    folder: Path
    port: int
    password: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed: run `apt-get install redis-server`"
        options = {"port": self.port, "bind": "127.0.0.1", "unixsocket": self.folder / "redis.sock", "save": ""}
        if self.password is not None:
            options["requirepass"] = self.password
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program, *words], cwd=self.folder, stdout=log, stderr=log)
        until(self.answers, "Redis answers")

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    @contextmanager
    def client(self) -> Iterator[redis.Redis]:
        with redis.Redis(host="127.0.0.1", port=self.port, password=self.password) as client:
            yield client

    def names(self) -> list[bytes]:
        with self.client() as client:
            return sorted(client.keys("*"))

    def kill(self) -> None:
        """As a crash would, also when it is stopped."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@pytest.fixture
def redis_server(request: pytest.FixtureRequest) -> Iterator[Redis]:
    """A Redis that is gone at the end; its password is the fixture's parameter."""
    folder = Path(tempfile.mkdtemp(prefix="penstock-redis-"))  # the path of a socket is short
    running = Redis(folder, lasting_port(), getattr(request, "param", None))
    running.start()
    try:
        yield running
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)
