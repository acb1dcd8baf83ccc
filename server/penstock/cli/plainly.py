"""Errors as sentences, and how a command ends: what every command does with an exception.

Exit status: 0 done; 1 failed; 2 wrong usage or setting; 3 no server answers; 130 Ctrl-C; 141 nobody reads its output.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

__all__ = ["INTERRUPTED", "UNREAD", "drop_output", "end_full", "ended_plainly", "is_full", "told_plainly", "warn"]

# As a shell has it: 128 and the signal's number, SIGINT and SIGPIPE.
INTERRUPTED, UNREAD = 130, 141
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def told_plainly(debug: bool, *, status: int | None = None) -> Iterator[None]:
    """Turn an exception into a sentence and an exit status; with `debug` let it through.

    `status` is that of commands which fail only for what they were given, in whatever file it stands.
    """
    from penstock.core.errors import PenstockError

    try:
        yield
    except BrokenPipeError:
        raise  # of standard output: what befalls a connection is an error of the SDK
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except PenstockError as error:
        if debug:
            raise
        _complain(str(error))
        raise typer.Exit(error.exit_code if status is None else status) from None
    except Exception as error:
        if debug or (isinstance(error, OSError) and is_full(error)):
            raise
        text, code = _complaint(error)
        _complain(text)
        raise typer.Exit(code) from None


@contextmanager
def ended_plainly() -> Iterator[None]:
    """Give Ctrl-C and a pipe that nobody reads their exit status, without a word; one that is full gets a word."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        drop_output()
        raise typer.Exit(UNREAD) from None
    except OSError as error:
        if not is_full(error):
            raise
        raise typer.Exit(end_full()) from None


def is_full(error: OSError) -> bool:
    """Whether it is standard output that takes no more."""
    if error.errno not in _FULL or error.filename is not None:
        return False
    if getattr(sys.stdout, "write_through", False):
        return True  # PYTHONUNBUFFERED: nothing waits that could be tried again
    try:
        # What could not be written waits there yet.
        sys.stdout.flush()
    except OSError as again:
        return again.errno in _FULL
    return False


def end_full() -> int:
    """Say that standard output is full; the exit status."""
    drop_output()
    _complain("standard output is full")
    return 1


def drop_output() -> None:
    """Send what is yet to be written nowhere: the interpreter would complain of the pipe again when it ends."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def warn(text: str) -> None:
    """Say on standard error what is done, and better looked at."""
    sys.stderr.write(f"penstock: warning: {text}\n")


def _complaint(error: Exception) -> tuple[str, int]:
    known = None
    if "penstock_client" in sys.modules:  # it is not imported for the sake of the question
        from penstock.cli.asking import complaint

        known = complaint(error)
    return known or (f"internal error: {type(error).__name__}: {error}; run it again with --debug to see where", 1)


def _complain(text: str) -> None:
    sys.stderr.write(f"penstock: {text}\n")
