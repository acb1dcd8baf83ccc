"""`penstock doctor`: whether a server would do well here, what is missing, and the command that mends it."""

from penstock.cli.doctor.command import app

__all__ = ["app"]
