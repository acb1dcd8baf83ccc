"""Options that many commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["AsJson", "Debug", "KeyFile", "Name", "Reason", "Url"]

Url: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="URL", help="http://HOST:PORT or unix:/PATH [PENSTOCK_URL].", show_default=False),
]
KeyFile: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="It holds the key [PENSTOCK_KEY].", show_default=False)
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the JSON that is answered.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="The model.", show_default=False)]
Reason: TypeAlias = Annotated[str, typer.Option(metavar="TEXT", help="Why; the history keeps it.", show_default=False)]
