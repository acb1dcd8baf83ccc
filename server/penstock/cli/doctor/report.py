"""All checks, in sections, for people and for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from penstock.cli.doctor.checks import Check, State, warning
from penstock.cli.doctor.gpus import gpu_checks
from penstock.cli.doctor.libraries import extras_needed, library_checks
from penstock.cli.doctor.machine import machine_checks
from penstock.cli.doctor.native import native_checks
from penstock.cli.doctor.places import place_checks, settings_checks
from penstock.core.errors import PenstockError

__all__ = ["as_document", "as_text", "examine"]

Sections = Mapping[str, Sequence[Check]]


def examine(file: Path | None, url: str | None, key_file: Path | None, *, debug: bool = False) -> Sections:
    """Make all checks. One that fails itself is a warning; with `debug` it raises."""
    config, settings = settings_checks(file, os.environ)
    sections = {
        "machine": lambda: machine_checks(config),
        "penstock": lambda: chain(native_checks(), settings),
        "libraries": lambda: library_checks(extras_needed(config)),
        "gpu": lambda: gpu_checks(config),
        "places": lambda: place_checks(config, url),
    }
    if url is not None:
        from penstock.cli.doctor.server import server_checks

        sections["server"] = lambda: server_checks(url, key_file)
    return {section: list(_made(checks, debug)) for section, checks in sections.items()}


def _made(checks: Callable[[], Iterable[Check]], debug: bool) -> Iterator[Check]:
    """Yield the checks of a section. A machine that is not as others are must not keep the rest from being told."""
    try:
        yield from checks()
    except PenstockError:
        raise  # wrong usage
    except Exception as error:
        if debug:
            raise
        text = f"the rest cannot be looked at: {type(error).__name__}: {error}"
        yield warning("doctor", text, "penstock doctor --debug")


def as_text(sections: Sections) -> str:
    """Return a line for each check, below it the command that mends it, and how many there are of each state."""
    width = max(len(check.name) for checks in sections.values() for check in checks)
    lines = []
    for section, checks in sections.items():
        lines.append(section)
        for check in checks:
            lines.append(f"  {check.state:<7}  {check.name:<{width}}  {' '.join(check.text.split())}")
            if check.mend is not None:
                lines.append(f"  {'':<7}  {'':<{width}}    {check.mend}")
    counts = _counts(sections)
    told = (f"{counts[state]} {state}{'' if counts[state] == 1 else 's'}" for state in ("fault", "warning"))
    return "\n".join([*lines, "", ", ".join(told)])


def as_document(sections: Sections) -> str:
    """Return one JSON document."""
    checks = [
        {"section": section, "name": check.name, "state": check.state.value, "text": check.text, "mend": check.mend}
        for section, section_checks in sections.items()
        for check in section_checks
    ]
    counts = _counts(sections)
    document = {"faults": counts["fault"], "warnings": counts["warning"], "checks": checks}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _counts(sections: Sections) -> dict[str, int]:
    states = [check.state for checks in sections.values() for check in checks]
    return {state.value: states.count(state) for state in State}
