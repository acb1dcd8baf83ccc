"""What a server would use: settings, ports, its data folder, the registry's database, Redis."""

from __future__ import annotations

import getpass
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from penstock.cli.doctor.checks import Check, Checks, fault, installing, ok, warning, within
from penstock.cli.doctor.listeners import holders_of, listeners
from penstock.cli.tables import size
from penstock.core.config import ServerConfig
from penstock.core.errors import PenstockError
from penstock.core.secrets import without_secrets
from penstock.registry.places import data_folder, registry_places

__all__ = ["place_checks", "settings_checks"]

_SECONDS = 10.0
_DISK_MIN = 1 << 30
# SQLite's locks, and its log in shared memory, need a file system of this machine.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "fuse.s3fs")
_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def settings_checks(file: Path | None, environment: Mapping[str, str]) -> tuple[ServerConfig, list[Check]]:
    """Return the settings, those by default where they are wrong, and what is to be said about them."""
    from penstock.cli.config.validating import mistakes_of

    gathered, mistakes = mistakes_of(file, environment)
    # The data folder is looked at among the places.
    mistakes = [mistake for mistake in mistakes if mistake.setting != "server.data_dir"]
    shown = "" if file is None else f" {file}"
    mend = f"penstock config validate{shown}"
    checks = [fault("settings", str(mistake), mend) for mistake in mistakes]
    config = ServerConfig() if gathered.mistakes else gathered.config()
    count = len(config.models)
    return config, checks or [ok("settings", f"right; {count} model{'' if count == 1 else 's'} configured")]


def place_checks(config: ServerConfig, asked: str | None) -> Checks:
    """Look at all places. `asked` is the URL of a server that is expected to run, and so to hold its ports."""
    yield from _ports(config, asked)
    yield from _data(config)
    yield _store(config)
    if config.cache_redis is not None:
        yield _redis(config.cache_redis)


def _ports(config: ServerConfig, asked: str | None) -> Iterator[Check]:
    grpc = config.grpc_port if config.grpc_port is not None else (config.port and config.port + 1)
    held = listeners()
    for name, flag, port in (("port", "--port", config.port), ("gRPC port", "--grpc-port", grpc)):
        if not port:
            yield ok(name, "any that is free")
        elif port in held:
            holders = ", ".join(holders_of(held[port])) or "a program of another user"
            text = f"{port} is in use by {holders}"
            # Where our own server runs, that is as it should be.
            expected = asked is not None and _port_of(asked) == config.port
            yield ok(name, text) if expected else warning(name, text, f"penstock serve {flag} 0 ...")
        elif port < _first_unprivileged() and os.geteuid() != 0:
            mend = f"sudo sysctl net.ipv4.ip_unprivileged_port_start={port}"
            yield fault(name, f"{port} is for those with a privilege", mend)
        else:
            yield ok(name, f"{port} is free")


def _data(config: ServerConfig) -> Iterator[Check]:
    folder = data_folder(config)
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        text = f"{folder} cannot be {'written' if there == folder else f'made: {there} cannot be written'}"
        yield fault("data folder", text, f"sudo install -d -m 700 -o {_user()} {folder}")
        return
    yield ok("data folder", f"{folder} can be {'written' if there == folder else 'made'}")
    free = shutil.disk_usage(there).free
    if free < _DISK_MIN:
        text = f"{size(free)} free: registered models are copied there"
        yield warning("disk", text, "penstock serve --data-dir /ANOTHER/FOLDER ...")
    else:
        yield ok("disk", f"{size(free)} free")


def _store(config: ServerConfig) -> Check:
    from penstock.store.looking import schema_of
    from penstock.store.migrate import known_schema

    url = registry_places(config)[0]
    shown = without_secrets(url)
    try:
        present = within(2 * _SECONDS, lambda: schema_of(url, _SECONDS))
    except (PenstockError, TimeoutError, OSError) as error:
        return fault("registry", f"{shown}: {error}", _mend_store(url, error))
    if present is not None and present > known_schema():
        text = f"{shown} has schema {present}, which a newer Penstock made"
        return fault("registry", text, installing())
    remote = _remote_kind(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite:///") else None
    if remote is not None:
        text = f"{shown} is on a file system of another machine ({remote}), where SQLite's locks are not sure"
        return warning("registry", text, "penstock serve --data-dir /A/LOCAL/FOLDER ...")
    if present is None:
        return ok("registry", f"{shown}: the first server makes it")
    behind = "" if present == known_schema() else f"; the next server brings it to {known_schema()}"
    return ok("registry", f"{shown}, schema {present}{behind}")


def _redis(url: str) -> Check:
    shown = without_secrets(url)

    def ping() -> None:
        from penstock.cache.store import Store

        Store(url, os.environ.get("REDISCLI_AUTH"), _SECONDS).ping()

    try:
        within(2 * _SECONDS, ping)
    except ImportError:
        return fault("redis", "cache_redis needs redis-py", "pip install 'penstock[redis]'")
    except Exception as error:  # of the library's own kinds, which only its door knows
        return fault("redis", f"{shown} does not answer: {error}", "systemctl status redis")
    return ok("redis", f"{shown} answers")


def _remote_kind(path: Path) -> str | None:
    """Return the kind of a file system that is another machine's."""
    best, found = Path("/"), ""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        mounted = Path(where.replace("\\040", " "))
        if len(mounted.parts) >= len(best.parts) and (path == mounted or mounted in path.absolute().parents):
            best, found = mounted, kind
    return found if found in _REMOTE else None


def _mend_store(url: str, error: Exception) -> str:
    if "pip install" in str(error):
        return "pip install 'penstock[postgres]'"
    if url.startswith("sqlite:///"):
        return f"sqlite3 {url.removeprefix('sqlite:///')} 'PRAGMA integrity_check'"
    return f"pg_isready -d '{without_secrets(url)}'"


def _port_of(url: str) -> int | None:
    try:
        parts = urlsplit(url)
        return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return None


def _first_unprivileged() -> int:
    try:
        return int(_UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        return 1024


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
