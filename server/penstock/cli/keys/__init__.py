"""`penstock keys`: make, list and revoke keys, in the store itself or at a server."""

from penstock.cli.keys.command import app

__all__ = ["app"]
