"""Completion in the shell: what is said when Tab is pressed. It is never an error message."""

from __future__ import annotations

import os
from collections.abc import Callable

import typer

__all__ = ["begin_completion", "is_completing", "model_names", "one_of"]

# By what a script asks, in the words of typer.
VARIABLE = "_PENSTOCK_COMPLETE"
# Somebody waits at the keyboard.
_TIMEOUT_S = 0.5


def is_completing() -> bool:
    """Whether it is a shell that asks."""
    return VARIABLE in os.environ


def begin_completion() -> None:
    """Get ready to answer a shell, where it is one that asks."""
    if is_completing():
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


def one_of(*words: str) -> Callable[[], list[str]]:
    """Return what completes one of some words."""
    # Typer leaves out those that begin otherwise.
    return lambda: [*words]


def model_names(ctx: typer.Context) -> list[str]:
    """Return the names of a server's models, none where that is not said at once."""
    try:
        from penstock.cli.asking import client_of
        from penstock_client import Retries

        asked = ctx.params
        client = client_of(
            asked.get("url") or asked.get("address"),
            asked.get("key_file"),
            timeout_s=_TIMEOUT_S,
            retries=Retries(attempts_max=1),
        )
        return sorted({model["name"] for model in client.models.page(limit=1000)["models"]})
    except Exception:
        # Whatever it is: what is typed at the moment is not the place to say it.
        return []
