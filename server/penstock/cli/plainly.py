"""Errors as sentences: what every command does with an exception."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["told_plainly"]


@contextmanager
def told_plainly(debug: bool) -> Iterator[None]:
    """Turn an exception into a sentence and an exit status; with `debug` let it through."""
    from penstock.core.errors import PenstockError

    try:
        yield
    except PenstockError as error:
        if debug:
            raise
        _complain(str(error))
        raise typer.Exit(error.exit_code) from None
    except Exception as error:
        if debug:
            raise
        _complain(f"internal error: {type(error).__name__}: {error}; run it again with --debug to see where")
        raise typer.Exit(1) from None


def _complain(text: str) -> None:
    sys.stderr.write(f"penstock: {text}\n")
