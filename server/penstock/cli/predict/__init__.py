"""`penstock predict`: ask a model with values, files or pictures."""

from penstock.cli.predict.command import app

__all__ = ["app"]
