"""`penstock models`: registered models and their versions, at a server that runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.options import AsJson, Debug, KeyFile, Name, Reason, Url
from penstock.cli.plainly import told_plainly

if TYPE_CHECKING:
    from penstock.cli.asking import Models

__all__ = ["app"]

app = typer.Typer(
    help="Register models, load them, and decide which version answers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_Version = Annotated[str | None, typer.Argument(metavar="VERSION", help="A version or an alias.", show_default=False)]
_GivenVersion = Annotated[str, typer.Argument(metavar="VERSION", help="A version or an alias.", show_default=False)]
_AllowSchemaChange = Annotated[
    bool,
    typer.Option(
        "--allow-schema-change", help="Even if clients of the version that answers break.", show_default=False
    ),
]


def _option(help_text: str, metavar: str) -> Any:
    return typer.Option(metavar=metavar, help=help_text, show_default=False)


@app.command("register")
def _register(
    name: Name,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Its file or folder.", show_default=False)],
    version: Annotated[str | None, _option("Such as 1.2.0 [the next minor version].", "VERSION")] = None,
    backend: Annotated[str, _option("What runs it [by its files].", "NAME")] = "auto",
    description: Annotated[str, _option("What it is.", "TEXT")] = "",
    owner: Annotated[str, _option("Whose it is.", "TEXT")] = "",
    tag: Annotated[list[str] | None, _option("To find it by; may be repeated.", "TEXT")] = None,
    framework: Annotated[str, _option("What it was made with.", "TEXT")] = "",
    training_data: Annotated[str, _option("What it was made from.", "TEXT")] = "",
    metric: Annotated[list[str] | None, _option("How good it is; may be repeated.", "NAME=NUMBER")] = None,
    lineage: Annotated[list[str] | None, _option("Where it comes from; may be repeated.", "KIND=TEXT")] = None,
    environment: Annotated[list[str] | None, _option("A package; may be repeated.", "NAME=VERSION")] = None,
    card: Annotated[Path | None, _option("A model card in Markdown.", "FILE")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting, as in TOML; repeat.", show_default=False),
    ] = None,
    upload: Annotated[bool, typer.Option("--upload", help="Send the files: the server is elsewhere.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Register a file or folder as a new version. Nothing is loaded yet."""
    with told_plainly(debug):
        from penstock.cli.models.registering import numbers, pairs, read_card, settings

        document = _models(url, key_file).register(
            name,
            path,
            upload=upload,
            version=version,
            backend=backend,
            description=description,
            owner=owner,
            tags=tag or [],
            framework=framework,
            training_data=training_data,
            metrics=numbers(metric or []),
            lineage=pairs("--lineage", lineage or []),
            environment=pairs("--environment", environment or []),
            card="" if card is None else read_card(card),
            settings=settings(setting or []),
        )
        _print(document, as_json, lambda answer: f"registered {answer['name']} {answer['version']}")


@app.command("list")
def _list(
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.", show_default=False)] = None,
    after: Annotated[str | None, _option("Go on after this one.", "NAME@VERSION")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List the model versions, registered or configured."""
    with told_plainly(debug):
        from penstock.cli.models.output import list_text

        _print(_models(url, key_file).page(limit=limit, after=after), as_json, list_text)


@app.command("show")
def _show(
    name: Name,
    version: _Version = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show a model with its versions, or all that is known of one version."""
    with told_plainly(debug):
        from penstock.cli.models.output import model_text, version_text

        models = _models(url, key_file)
        if version is None:
            _print(models.show(name), as_json, model_text)
        else:
            _print(models.version(name, version), as_json, version_text)


@app.command("schema")
def _schema(
    name: Name,
    version: _Version = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Show what a model takes and gives, and a call that would work."""
    with told_plainly(debug):
        from penstock.cli.asking import client_of
        from penstock.cli.models.output import schema_text
        from penstock.cli.served import served_of

        served = served_of(client_of(url, key_file), name, version)
        _print(served.document(), as_json, schema_text)


@app.command("load")
def _load(
    name: Name,
    version: _Version = None,
    lazy: Annotated[bool, typer.Option("--lazy", help="At the first request for it.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Have a version in memory, and return when it is ready. Without VERSION: the one that answers."""
    with told_plainly(debug):
        document = _models(url, key_file).load(name, version, lazy=lazy)
        done = "loads at the first request" if lazy else "is loaded"
        _print(document, as_json, lambda answer: f"{_called(name, version)} {done}")


@app.command("unload")
def _unload(
    name: Name,
    version: _Version = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Have a version in memory no longer, without VERSION none of the model's, once its requests are answered."""
    with told_plainly(debug):
        document = _models(url, key_file).unload(name, version)
        _print(document, as_json, lambda answer: f"{_called(name, version)} is unloaded")


@app.command("alias")
def _alias(
    name: Name,
    alias: Annotated[str, typer.Argument(metavar="ALIAS", help="Such as staging.", show_default=False)],
    version: _Version = None,
    remove: Annotated[bool, typer.Option("--remove", help="Take the alias away.")] = False,
    expected: Annotated[str | None, _option("Only if it points there now.", "VERSION")] = None,
    allow_schema_change: _AllowSchemaChange = False,
    reason: Reason = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Point an alias to a version, take it away, or say where it points."""
    with told_plainly(debug):
        from penstock.core.errors import ConfigError

        if remove and version is not None:
            raise ConfigError("--remove takes an alias away and wants no VERSION")
        models = _models(url, key_file)
        document: Any
        if version is not None:
            document = models.set_alias(
                name, alias, version, expected=expected, reason=reason, allow_schema_change=allow_schema_change
            )
        elif remove:
            document = models.remove_alias(name, alias, expected=expected, reason=reason)
        else:
            document = models.alias(name, alias)
        _print(document, as_json, lambda answer: f"{name} {alias} -> {answer['version'] or 'nowhere'}")


@app.command("promote")
def _promote(
    name: Name,
    version: _GivenVersion,
    reason: Reason = "",
    mirror_share: Annotated[
        float | None,
        typer.Option(min=0.0001, max=1, help="First compare on this share of live requests.", show_default=False),
    ] = None,
    mirror_rows: Annotated[int, typer.Option(min=1, help="So many of them.")] = 100,
    mirror_rtol: Annotated[float, typer.Option(min=0, help="Outputs may differ by this share.")] = 1e-4,
    mirror_atol: Annotated[float, typer.Option(min=0, help="And by this much.")] = 1e-6,
    mirror_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for them.")] = 60.0,
    allow_schema_change: _AllowSchemaChange = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let a version answer once it is loaded, warm and proven. When it is not, nothing changes."""
    with told_plainly(debug):
        mirror = {
            "share": mirror_share or 0.0,
            "rows": mirror_rows,
            "rtol": mirror_rtol,
            "atol": mirror_atol,
            "timeout_s": mirror_timeout,
        }
        document = _models(url, key_file).promote(
            name,
            version,
            reason=reason,
            mirror=None if mirror_share is None else mirror,
            allow_schema_change=allow_schema_change,
        )
        _print(document, as_json, lambda answer: f"{name} {answer['version']} answers now")


@app.command("rollback")
def _rollback(
    name: Name,
    reason: Reason = "",
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Let the version answer that did before."""
    with told_plainly(debug):
        document = _models(url, key_file).rollback(name, reason=reason)
        _print(document, as_json, lambda answer: f"{name} {answer['version']} answers now")


@app.command("history")
def _history(
    name: Name,
    at: Annotated[str | None, _option("Which version answered then: 2026-01-31T12:00:00Z.", "TIME")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="At most so many.", show_default=False)] = None,
    before: Annotated[int | None, _option("Events before this number.", "NUMBER")] = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """List what happened to a model and who did it, or which version answered at a time."""
    with told_plainly(debug):
        from penstock.cli.models.output import history_text

        document = _models(url, key_file).history_page(name, at=at, limit=limit, before=before)
        _print(document, as_json, history_text)


@app.command("rm")
def _remove(
    name: Name,
    version: _Version = None,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Remove a version from the registry, without VERSION the model with all of them."""
    with told_plainly(debug):
        document = _models(url, key_file).remove(name, version)
        _print(document, as_json, lambda answer: f"{_called(name, version)} is removed")


def _models(url: str | None, key_file: Path | None) -> Models:
    from penstock.cli.asking import client_of

    return client_of(url, key_file).models


def _called(name: str, version: str | None) -> str:
    return name if version is None else f"{name} {version}"


def _print(document: Any, as_json: bool, text_of: Callable[[Any], str]) -> None:
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else text_of(document))
