"""`penstock config`: the settings that a server would have, and what is wrong with them."""

from penstock.cli.config.commands import app

__all__ = ["app"]
