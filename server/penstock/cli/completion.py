"""The command `penstock completion`."""

from __future__ import annotations

from typing import Annotated

import typer

from penstock.cli.completing import one_of
from penstock.cli.options import Debug
from penstock.cli.plainly import told_plainly

__all__ = ["app"]

# What is wrong is said to nobody: it would stand in the middle of what is typed.
_SCRIPTS = {
    "bash": """_penstock_completion() {
    local IFS=$'\\n'
    COMPREPLY=($(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _PENSTOCK_COMPLETE=complete_bash "$1" 2> /dev/null))
}
complete -o default -F _penstock_completion penstock""",
    "zsh": """#compdef penstock
_penstock_completion() {
    eval "$(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _PENSTOCK_COMPLETE=complete_zsh penstock 2> /dev/null)"
}
compdef _penstock_completion penstock""",
    "fish": """complete --command penstock --arguments "(env _PENSTOCK_COMPLETE=complete_fish \\
_TYPER_COMPLETE_FISH_ACTION=get-args _TYPER_COMPLETE_ARGS=(commandline -cp) penstock 2> /dev/null)" """.rstrip(),
}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command("completion")
def _completion(
    shell: Annotated[
        str,
        typer.Argument(
            metavar="SHELL",
            help="bash, zsh or fish.",
            show_default=False,
            autocompletion=one_of(*_SCRIPTS),
        ),
    ],
    debug: Debug = False,
) -> None:
    """Print a script that completes commands, options and models: eval "$(penstock completion bash)"."""
    with told_plainly(debug):
        from penstock.core.errors import ConfigError

        if shell not in _SCRIPTS:
            raise ConfigError(f"{shell!r}: expected one of {', '.join(_SCRIPTS)}")
        typer.echo(_SCRIPTS[shell])
