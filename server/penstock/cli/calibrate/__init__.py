"""`penstock calibrate`: what an answer needs to know of how right its model is."""

from penstock.cli.calibrate.command import app

__all__ = ["app"]
