"""All that is wrong with settings, as far as it shows without serving."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from penstock.core.contradictions import Contradiction, contradictions
from penstock.core.gathering import Gathered
from penstock.core.origins import Mistake, Origin
from penstock.core.sources import gather
from penstock.serve.preflight import preflight

__all__ = ["as_document", "mistakes_of", "said_of_right"]

_USUAL = "penstock.toml"  # as penstock init names it


def mistakes_of(file: Path | None, environment: Mapping[str, str]) -> tuple[Gathered, list[Mistake]]:
    """Return what is said, and all that is wrong with it.

    What contradicts something else is looked for once everything can be read: the default in place of a wrong value
    would contradict what it does not.
    """
    gathered = gather(file=file, environment=environment)
    mistakes = list(gathered.mistakes)
    if not mistakes:
        config = gathered.config()
        found = chain(contradictions(config), preflight(config))
        mistakes = [_placed(gathered, contradiction) for contradiction in found]
    return gathered, sorted(mistakes, key=lambda mistake: (mistake.file is None, mistake.line or 0))


def as_document(mistakes: Sequence[Mistake]) -> str:
    """Return one JSON document."""
    listed = [{**asdict(mistake), "file": None if mistake.file is None else str(mistake.file)} for mistake in mistakes]
    return json.dumps({"valid": not mistakes, "mistakes": listed}, indent=2, ensure_ascii=False)


def said_of_right(gathered: Gathered, file: Path | None, environment: Mapping[str, str]) -> str:
    """Return a sentence about settings without mistakes."""
    config = gathered.config()
    count = len(config.models)
    models = {0: "no model", 1: "1 model"}.get(count, f"{count} models")
    right = f"right: {models} at {config.host}:{config.port}"
    if file is None and environment.get("PENSTOCK_CONFIG"):
        file = Path(environment["PENSTOCK_CONFIG"]).expanduser()
    if file is not None:
        return f"{file} is {right}"
    unread = f"; {_USUAL} here was not read: penstock config validate {_USUAL}" if Path(_USUAL).is_file() else ""
    return f"no file was given, and the settings of the environment alone are {right}{unread}"


def _placed(gathered: Gathered, contradiction: Contradiction) -> Mistake:
    """Return a mistake with the place where its setting is said, or the model that it is about."""
    model = contradiction.model
    name = f"server.{contradiction.setting}" if model is None else f"models.{model.name}.{contradiction.setting}"
    origin = next(_origins(gathered, contradiction), None)
    if origin is None or origin.file is None:
        return Mistake(contradiction.text, name)
    return Mistake(contradiction.text, name, origin.file, origin.line)


def _origins(gathered: Gathered, contradiction: Contradiction) -> Iterator[Origin]:
    model = contradiction.model
    if model is None:
        said = gathered.server.get(contradiction.setting)
        if said is not None:
            yield said.origin
        return
    for each in gathered.models:
        if each.label == (model.name, model.version):
            said = each.values.get(contradiction.setting)
            yield each.origin if said is None else said.origin
