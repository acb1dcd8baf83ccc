"""Databases for tests: SQLite files, and a PostgreSQL of our own that runs for the session."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import lasting_port

__all__ = ["Postgres", "postgres", "store"]

PASSWORD = "secret word"


@dataclass
class Postgres:
    """A running PostgreSQL. Over its socket everyone may do everything; over TCP one needs the password."""

    folder: Path
    programs: Path
    port: int
    databases: int = field(default=0)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, which refuse to run as root."""
        user = "postgres" if os.geteuid() == 0 else None
        # pg_ctl leaves a server behind that would keep a pipe open for ever.
        with (self.folder / "output").open("a") as output:
            result = subprocess.run(
                [self.programs / program, *arguments],
                user=user,
                group=user,
                extra_groups=[] if user else None,
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                check=False,
            )
        if result.returncode:
            pytest.fail(f"{program} failed: {(self.folder / 'output').read_text()}")

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        authentication = ["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile=password", "-U", "postgres"]
        self.run("initdb", "-D", "data", *authentication, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")

    def start(self) -> None:
        # Without fsync what is committed outlives the server all the same, though not the machine, and a start after a
        # crash need not sync the files of every database that tests have made, which takes minutes on a busy disk.
        settings = ("listen_addresses=127.0.0.1", "max_connections=100", "fsync=off")
        options = " ".join([f"-k {self.folder} -p {self.port}", *(f"-c {setting}" for setting in settings)])
        self.run("pg_ctl", "-D", "data", "-l", "log", "-w", "-t", "300", "-o", options, "start")

    def stop(self) -> None:
        """Stop at once, as a crash would."""
        self.run("pg_ctl", "-D", "data", "-w", "-t", "300", "-m", "immediate", "stop")

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        self.databases += 1
        name = f"test{self.databases}"
        self.run("createdb", "-h", str(self.folder), "-p", str(self.port), "-U", "postgres", name)
        return f"postgresql://postgres@/{name}?host={self.folder}&port={self.port}"

    def tcp(self, url: str, password: str) -> str:
        """Return the URL of the same database over TCP."""
        name = url.partition("@/")[2].partition("?")[0]
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{name}"


def programs() -> Path:
    """Return the folder of PostgreSQL's programs."""
    found = shutil.which("pg_ctl")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / "pg_ctl").exists() and (folder / "initdb").exists():
            return folder
    pytest.fail(
        "PostgreSQL's pg_ctl and initdb are not installed: run `apt-get install postgresql`, or put them on PATH"
    )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that is removed at the end."""
    found = programs()
    # The path of a socket is short, and its user is another than ours.
    folder = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
    server = Postgres(folder, found, lasting_port())
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres").new_database())
    return f"sqlite:///{tmp_path}/{secrets.token_hex(4)}/penstock.db"
