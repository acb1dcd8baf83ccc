"""`penstock init`: a project with a model, its settings and its tests, to begin with."""

from __future__ import annotations

import json as json_module
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.options import Debug
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)


class Template(StrEnum):
    """What the model of the project is made with."""

    PYTHON = "python"
    ONNX = "onnx"
    SKLEARN = "sklearn"


@app.callback()
def _several() -> None:
    """Begin a project."""


@app.command("init")
def _init(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where it is to be [here].", show_default=False)
    ] = Path(),
    template: Annotated[Template, typer.Option(help="What its model is made with.")] = Template.PYTHON,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Debug = False,
) -> None:
    """Begin a project: a small model that works, its settings, golden and labelled rows, tests, and a job for CI.

    Nothing is downloaded, and no file is overwritten: it exits with 2 when one is there already.
    """
    with told_plainly(debug):
        from penstock.cli.init.project import make_project

        made = make_project(folder, template.value)
        go = [] if folder == Path() else [f"cd {shlex.quote(str(folder))}"]
        commands = [*go, *made.commands]
        if as_json:
            document = {"folder": str(folder), "template": template.value, "files": made.files, "next": commands}
            sys.stdout.write(json_module.dumps(document) + "\n")
        else:
            lines = [*(str(folder / name) for name in made.files), "", "next:", *(f"  {line}" for line in commands)]
            sys.stdout.write("\n".join(lines) + "\n")
