"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from penstock.cli.completing import model_names

__all__ = ["AsJson", "Debug", "KeyFile", "Model", "Name", "Reason", "Url"]

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URL", help="http://HOST:PORT or unix:/PATH [PENSTOCK_URL].", show_default=False),
]
KeyFile: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="It holds the key [PENSTOCK_API_KEY].", show_default=False)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the JSON that is answered.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="The model.", show_default=False, autocompletion=model_names)
]
Model: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model to ask.", show_default=False, autocompletion=model_names)
]
Reason: TypeAlias = Annotated[str, typer.Option(metavar="TEXT", help="Why; the history keeps it.", show_default=False)]
