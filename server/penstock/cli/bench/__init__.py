"""`penstock bench`: a served model under load."""

from penstock.cli.bench.command import app

__all__ = ["app"]
