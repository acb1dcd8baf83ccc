"""`penstock watch`: what a server does, live in the terminal."""

from penstock.cli.watch.command import app

__all__ = ["app"]
