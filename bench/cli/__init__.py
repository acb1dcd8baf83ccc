"""The commands of `python -m bench`, in one file for each question they answer."""

from bench.cli import clients, gates, loads, swapping, yardsticks
from bench.cli.app import app

__all__ = ["app", "clients", "gates", "loads", "swapping", "yardsticks"]
