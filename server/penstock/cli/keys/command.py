"""`penstock keys`: who may administer.

Without --url it works on the store itself: who can write it may make keys, the first one too. With --url a server does
it, which wants a key of the role admin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli.completing import one_of
from penstock.cli.options import AsJson, Debug, KeyFile
from penstock.cli.plainly import told_plainly

if TYPE_CHECKING:
    from penstock.cli.asking import Keys

__all__ = ["app"]

app = typer.Typer(
    help="Make, list and revoke keys, in the store itself or at a server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_ROLES: tuple[Literal["admin", "operator", "predict"], ...] = ("admin", "operator", "predict")

_Config = Annotated[Path | None, typer.Option(metavar="FILE", help="The server's settings.", show_default=False)]
_Store = Annotated[
    str | None,
    typer.Option(metavar="URL", help="sqlite:///PATH or postgresql://... [as the server has it].", show_default=False),
]
_DataDir = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="The server's data folder [as the server has it].", show_default=False),
]
# Not from PENSTOCK_URL: whoever has set it for everything else would no longer reach the store.
_Url = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Ask this server in place of the store.", show_default=False),
]


@app.command("create")
def _create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.", show_default=False)],
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE", help="admin, operator or predict.", show_default=False, autocompletion=one_of(*_ROLES)
        ),
    ],
    config: _Config = None,
    store: _Store = None,
    data_dir: _DataDir = None,
    url: _Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a key and print it, this once. Servers that run take it within a second or two."""
    with told_plainly(debug):
        if url is None:
            from penstock.cli.keys.store import create

            record, text = create(name, role, _flags(store, data_dir), config)
        else:
            record, text = _create_at(_keys(url, key_file, config, store, data_dir), name, role, url)
        if as_json:
            typer.echo(json.dumps({**record, "key": text}, indent=2))
        else:
            # The key alone on standard output, so that a program can take it.
            where = record.get("store") or record["server"]
            typer.echo(f"key {record['id']} for {record['name']}, {record['role']}, in {where}", err=True)
            typer.echo("what opens is shown this once:", err=True)
            typer.echo(text)


@app.command("list")
def _list(
    config: _Config = None,
    store: _Store = None,
    data_dir: _DataDir = None,
    url: _Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the keys, revoked ones too. What opens is not kept, so it cannot be shown."""
    with told_plainly(debug):
        from penstock.cli.tables import table

        records: Sequence[Mapping[str, object]]
        if url is None:
            from penstock.cli.keys.store import everyone

            records = everyone(_flags(store, data_dir), config)
        else:
            records = [{**key} for key in _keys(url, key_file, config, store, data_dir).list()]
        columns = ("id", "name", "role", "created_at", "created_by", "revoked_at")
        rows = [[record[column] for column in columns] for record in records]
        headings = [column.upper().replace("_", " ") for column in columns]
        typer.echo(json.dumps({"keys": records}, indent=2) if as_json else table(headings, rows))


@app.command("revoke")
def _revoke(
    id: Annotated[str, typer.Argument(metavar="ID", help="As list shows it.", show_default=False)],
    config: _Config = None,
    store: _Store = None,
    data_dir: _DataDir = None,
    url: _Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let a key open nothing any more. Servers that run follow within a second or two."""
    with told_plainly(debug):
        record: Mapping[str, object]
        if url is None:
            from penstock.cli.keys.store import revoke

            record = revoke(id, _flags(store, data_dir), config)
        else:
            record = _keys(url, key_file, config, store, data_dir).revoke(id)
        said = f"key {record['id']} of {record['name']} opens nothing any more"
        typer.echo(json.dumps(record, indent=2) if as_json else said)


def _keys(url: str, key_file: Path | None, config: Path | None, store: str | None, data_dir: str | None) -> Keys:
    from penstock.cli.asking import client_of
    from penstock.core.errors import ConfigError

    if config is not None or store is not None or data_dir is not None:
        raise ConfigError("--url asks a server, which knows its store: leave out --config, --store and --data-dir")
    return client_of(url, key_file).keys


def _create_at(keys: Keys, name: str, name_of_role: str, url: str) -> tuple[dict[str, object], str]:
    from penstock.core.errors import ConfigError

    role = next((each for each in _ROLES if each == name_of_role), None)
    if role is None:
        raise ConfigError(f"--role {name_of_role!r}: expected one of {', '.join(_ROLES)}")
    answer = keys.create(name, role)
    record = {name: value for name, value in answer.items() if name != "key"}
    return {**record, "server": url}, answer["key"]


def _flags(store: str | None, data_dir: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("store", store), ("data_dir", data_dir)) if value is not None}
