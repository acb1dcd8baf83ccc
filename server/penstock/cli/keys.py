"""`penstock keys`: who may administer. Works on the store itself: who can write it may make keys, the first one too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.options import AsJson, Debug
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(
    help="Make, list and revoke keys, in the store itself.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_Config = Annotated[Path | None, typer.Option(metavar="FILE", help="The server's settings.", show_default=False)]
_Store = Annotated[
    str | None,
    typer.Option(metavar="URL", help="sqlite:///PATH or postgresql://... [as the server has it].", show_default=False),
]
_DataDir = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="The server's data folder [as the server has it].", show_default=False),
]


@app.command("create")
def _create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use it.", show_default=False)],
    role: Annotated[str, typer.Option(metavar="ROLE", help="admin, operator or predict.", show_default=False)],
    config: _Config = None,
    store: _Store = None,
    data_dir: _DataDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a key and print it, this once. Servers that run take it within a second or two."""
    with told_plainly(debug):
        from penstock.cli.key_store import create

        record, text = create(name, role, _flags(store, data_dir), config)
        if as_json:
            typer.echo(json.dumps({**record, "key": text}, indent=2))
        else:
            # The key alone on standard output, so that a program can take it.
            typer.echo(f"key {record['id']} for {record['name']}, {record['role']}, in {record['store']}", err=True)
            typer.echo("what opens is shown this once:", err=True)
            typer.echo(text)


@app.command("list")
def _list(
    config: _Config = None,
    store: _Store = None,
    data_dir: _DataDir = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the keys, revoked ones too. What opens is not kept, so it cannot be shown."""
    with told_plainly(debug):
        from penstock.cli.key_store import everyone
        from penstock.cli.tables import table

        records = everyone(_flags(store, data_dir), config)
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
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let a key open nothing any more. Servers that run follow within a second or two."""
    with told_plainly(debug):
        from penstock.cli.key_store import revoke

        record = revoke(id, _flags(store, data_dir), config)
        said = f"key {record['id']} of {record['name']} opens nothing any more"
        typer.echo(json.dumps(record, indent=2) if as_json else said)


def _flags(store: str | None, data_dir: str | None) -> dict[str, Any]:
    return {name: value for name, value in (("store", store), ("data_dir", data_dir)) if value is not None}
