"""The commands `penstock config show` and `penstock config validate`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from penstock.cli.options import Debug
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(
    help="Show the settings that a server would have, and check them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
_OF_SERVE = "penstock.config.serve"


class _LikeServe(TyperCommand):
    """A command that takes what `penstock serve` takes, and finds it in the context's `meta`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options and arguments of both."""
        own = super().get_params(ctx)
        names = {parameter.name for parameter in own}
        return [*(each for each in _serve().params if each.name not in names), *own]

    def invoke(self, ctx: Any) -> Any:
        """Run with the command's own; what is of serve goes into `meta`."""
        own = {parameter.name for parameter in self.params}
        ctx.meta[_OF_SERVE] = {name: value for name, value in ctx.params.items() if name not in own}
        ctx.params = {name: value for name, value in ctx.params.items() if name in own}
        return super().invoke(ctx)


def _serve() -> Any:
    from penstock.cli.commands import app as all_commands

    return typer.main.get_command(all_commands).commands["serve"]  # type: ignore[attr-defined]


@app.command("show", cls=_LikeServe)
def _show(
    context: typer.Context,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out what is as by default.")] = False,
    as_json: _Json = False,
    debug: Debug = False,
) -> None:
    """Show every setting that `penstock serve` would have with the same arguments, and where it comes from.

    Passwords are not shown.
    """
    with told_plainly(debug):
        from penstock.cli.config.showing import shown_as_json, shown_as_text
        from penstock.core.contradictions import refuse_contradictions
        from penstock.core.sources import gather

        said = dict(context.meta[_OF_SERVE])
        config, models = said.pop("config"), said.pop("models")
        # What is a switch says nothing when it is not there, as in serve.
        flags = {name: "true" if value is True else value for name, value in said.items() if value not in (None, False)}
        gathered = gather(file=config, environment=os.environ, flags=flags, models=models or [])
        settings = gathered.config()
        refuse_contradictions(settings)
        shown = shown_as_json if as_json else shown_as_text
        typer.echo(shown(gathered, settings, os.environ, changed=changed))


@app.command("validate")
def _validate(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Settings in TOML [PENSTOCK_CONFIG].", show_default=False)
    ] = None,
    as_json: _Json = False,
    debug: Debug = False,
) -> None:
    """Check settings as `penstock serve --config FILE` would find them here, without binding or loading anything.

    Every mistake is told, with its line. Exits with 0 when there is none, 2 when there is one.
    """
    with told_plainly(debug):
        from penstock.cli.config.validating import as_document, mistakes_of, said_of_right

        gathered, mistakes = mistakes_of(file, os.environ)
        if as_json:
            typer.echo(as_document(mistakes))
        else:
            typer.echo("\n".join(map(str, mistakes)) if mistakes else said_of_right(gathered, file, os.environ))
    if mistakes:
        raise typer.Exit(2)
