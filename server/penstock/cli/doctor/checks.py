"""What a check finds, and how to look at what might never answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

__all__ = ["Check", "Checks", "State", "fault", "installing", "ok", "warning", "within"]

_T = TypeVar("_T")


class State(StrEnum):
    """How it stands. A fault keeps something from working that is asked for; a warning is worth a look."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at; `mend` is a command."""

    name: str
    state: State
    text: str
    mend: str | None = None


Checks = Iterator[Check]


def installing(version: str = "") -> str:
    """Return the command that installs Penstock anew. Not by its name: on PyPI that is somebody else's."""
    return f"pip install ./sdk/python .  # in a checkout of Penstock{f' {version}' if version else ''}"


def ok(name: str, text: str, mend: str | None = None) -> Check:
    """All is well; `mend` is what would bring more, if somebody wanted it."""
    return Check(name, State.OK, text, mend)


def warning(name: str, text: str, mend: str) -> Check:
    """Worth a look."""
    return Check(name, State.WARNING, text, mend)


def fault(name: str, text: str, mend: str) -> Check:
    """Does not work."""
    return Check(name, State.FAULT, text, mend)


def within(seconds: float, look: Callable[[], _T]) -> _T:
    """Return what `look` returns; TimeoutError when it takes longer, and it is left behind in its thread.

    For what has no time limit of its own: names that are resolved, libraries that connect, drivers.
    """
    result: list[_T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            result.append(look())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="penstock-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not result:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return result[0]
