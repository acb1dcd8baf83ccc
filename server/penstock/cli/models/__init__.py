"""`penstock models`: register models, load them, and decide which version answers."""

from penstock.cli.models.command import app

__all__ = ["app"]
