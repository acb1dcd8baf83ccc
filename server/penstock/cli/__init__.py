"""The command line: `penstock serve`, `penstock version`.

Exit status: 0 when all went well, 1 when something failed, 2 when the command line or a setting is wrong.
"""

from penstock.cli.commands import app, main

__all__ = ["app", "main"]
