"""Looks at a database without making, opening for writing or migrating anything."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from penstock.core.errors import ConfigError, RegistryUnavailableError

__all__ = ["schema_of"]

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")


def schema_of(url: str, timeout_s: float) -> int | None:
    """Return the number of the schema that a database has; None for one that a server has yet to make.

    RegistryUnavailableError says why it cannot be read; ConfigError that the URL means nothing.
    """
    if url.startswith(_SQLITE):
        return _schema_of_file(Path(url.removeprefix(_SQLITE)).expanduser(), timeout_s)
    if url.startswith(_POSTGRES):
        from penstock.store.postgres import schema_of_server

        return schema_of_server(url, timeout_s)
    kind = url.partition(":")[0]
    raise ConfigError(f"store = {kind}:...: expected sqlite:///PATH or postgresql://USER@HOST/DATABASE")


def _schema_of_file(path: Path, timeout_s: float) -> int | None:
    if not path.exists():
        return None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=timeout_s)
        try:
            row = connection.execute("SELECT COALESCE(MAX(number), 0) FROM migrations").fetchone()
            return int(row[0])
        finally:
            connection.close()
    except sqlite3.Error as error:
        if "no such table" in str(error):
            return None
        raise RegistryUnavailableError(f"{path} cannot be read: {error}") from error
