"""`penstock simulate`: what a deployment can carry, from what its batches cost."""

from penstock.cli.simulate.command import app

__all__ = ["app"]
