"""`penstock batch`: files of any size through a model, so that it can be stopped at any time and go on."""

from penstock.cli.batch.command import app

__all__ = ["app"]
