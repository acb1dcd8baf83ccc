"""Errors as sentences: what every command does with an exception."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["told_plainly", "warn"]


@contextmanager
def told_plainly(debug: bool, *, status: int | None = None) -> Iterator[None]:
    """Turn an exception into a sentence and an exit status; with `debug` let it through.

    `status` is that of commands which fail only for what they were given, in whatever file it stands.
    """
    from penstock.core.errors import PenstockError

    try:
        yield
    except PenstockError as error:
        if debug:
            raise
        _complain(str(error))
        raise typer.Exit(error.exit_code if status is None else status) from None
    except Exception as error:
        if debug:
            raise
        _complain(f"internal error: {type(error).__name__}: {error}; run it again with --debug to see where")
        raise typer.Exit(1) from None


def warn(text: str) -> None:
    """Say on standard error what is done, and better looked at."""
    sys.stderr.write(f"penstock: warning: {text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"penstock: {text}\n")
