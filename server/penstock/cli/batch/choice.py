"""Which columns of a file are sent to the model, which are carried into the output, and which are neither."""

from __future__ import annotations

import csv
import difflib
import io
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penstock.cli.served import Served
from penstock.core.errors import ConfigError

__all__ = ["Choice", "Places", "check_choice", "choice_of", "is_closed", "is_input", "places_of", "unknown_columns"]

# Of columns, in a sentence.
_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns of --keep, in their order, and of --drop."""

    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.keep or self.drop)


@dataclass(frozen=True, slots=True)
class Places:
    """Of a file's columns those that are sent, in its order, and those that are carried into the output."""

    columns: tuple[str, ...]
    sent: tuple[int, ...]
    carried: tuple[int, ...]


def choice_of(keep: Sequence[str], drop: Sequence[str]) -> Choice:
    """Read the options: names with commas between them; one that has a comma stands in double quotes."""
    choice = Choice(_names("--keep", keep), _names("--drop", drop))
    for name in choice.keep:
        if name in choice.drop:
            raise ConfigError(f"{name!r} is in --keep and in --drop: take it out of one of them")
    return choice


def _names(option: str, given: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for text in given:
        names = next(csv.reader([text], skipinitialspace=True), [])
        if not names or "" in names:
            raise ConfigError(f"{option} {text!r}: expected names of columns with commas between them")
        found |= dict.fromkeys(names)
    return tuple(found)


def check_choice(choice: Choice, served: Served, own: Mapping[str, str]) -> None:
    """ConfigError when an input that is needed is dropped, or a kept column has a name of the output's `own`."""
    for name in choice.drop:
        if is_input(served, name) and _is_needed(served, name):
            raise ConfigError(
                f"--drop {_word([name])}: {served.name} needs that input; it takes {served.takes()}. "
                f"Add --keep {_word([name])} to have it in the output, too"
            )
    for name in choice.keep:
        if name in own:
            raise ConfigError(
                f"--keep {_word([name])}: {name!r} is {own[name]}; rename the column in the input, or --drop it"
            )


def is_input(served: Served, column: str) -> bool:
    """Whether a column has the name of an input, of one of its elements, or of an object in a record."""
    stem, _, index = column.rpartition(".")
    for tensor in served.inputs:
        if tensor.name == column or (tensor.shape and tensor.name == stem and index.isdecimal()):
            return True
        if served.record is not None and tensor.name.startswith(f"{column}."):
            return True
    return False


def _is_needed(served: Served, column: str) -> bool:
    """Whether no row is complete without it. What has a default in a record is not needed."""
    if served.record is None:
        return True
    schema: Mapping[str, Any] = served.record
    for part in column.split("."):
        if part not in schema.get("properties", {}):
            return True  # an element of a field
        if part not in schema.get("required", ()) or "default" in schema["properties"][part]:
            return False
        schema = schema["properties"][part]
    return True


def is_closed(served: Served) -> bool:
    """Whether the server refuses what is no input. Of a record that takes other members it takes no notice of them."""
    return served.record is None or served.record.get("additionalProperties") is False


def places_of(columns: Sequence[str], choice: Choice, served: Served, file: str, *, closed: bool) -> Places:
    """Return where the columns of a file go; ConfigError where that cannot be said."""
    for option, names in (("--keep", choice.keep), ("--drop", choice.drop)):
        for name in names:
            if name not in columns:
                raise ConfigError(f"{option} {_word([name])}: {file} has no such column, but {_listed(columns)}")
    for name in choice.keep:
        if columns.count(name) > 1:
            raise ConfigError(f"--keep {_word([name])}: {file} has {columns.count(name)} columns of that name")
    gone = {*choice.drop, *(name for name in choice.keep if not is_input(served, name))}
    sent = tuple(place for place, name in enumerate(columns) if name not in gone)
    if choice and not sent:
        raise ConfigError(
            f"{file} has no column left that could be sent: {served.name} takes {served.takes()}. "
            "What is kept is sent, too, where it has the name of an input"
        )
    if closed:
        _check_sent([columns[place] for place in sent], served, file)
    return Places(tuple(columns), sent, tuple(columns.index(name) for name in choice.keep))


def _check_sent(columns: Sequence[str], served: Served, file: str) -> None:
    known = [name for name in columns if is_input(served, name)]
    if served.record is None and len(served.inputs) == 1:
        # Columns that are the elements of the only input may be called anything.
        (tensor,) = served.inputs
        elements = tensor.elements if tensor.shape else 1
        if len(columns) == elements or (not known and (elements is None or len(columns) < elements)):
            return
        if not known:
            takes = "1 column" if elements == 1 else f"{elements} columns"
            raise ConfigError(
                f"{file} has {len(columns)} columns ({_listed(columns)}), and {served.name} takes {takes}, {tensor}: "
                "add --keep COLUMN for what is to be carried into the output, or --drop COLUMN"
            )
    if unknown := [name for name in columns if name not in known]:
        raise unknown_columns(unknown, columns, served, file)


def unknown_columns(unknown: Sequence[str], columns: Sequence[str], served: Served, file: str) -> ConfigError:
    """Return the exception that says which columns are no inputs, and what can be done with them."""
    names = list(dict.fromkeys(unknown))
    are = "columns" if len(names) > 1 else "column"
    no = "are no inputs" if len(names) > 1 else "is no input"
    word = _word(names) if len(names) <= _NAMED_MAX else "COLUMN,..."
    missing = [tensor.name for tensor in served.inputs if tensor.name not in columns]
    close = difflib.get_close_matches(names[0], missing, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    if all(name.replace(".", "").isdigit() for name in columns):
        hint = " (the first line has to be a header)"
    return ConfigError(
        f"{file}: the {are} {_listed(names)} {no} of {served.name}, which takes {served.takes()}{hint}: "
        f"add --keep {word} to carry {'them' if len(names) > 1 else 'it'} into the output, or --drop {word}"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(map(repr, names[:_NAMED_MAX])) + more


def _word(names: Iterable[str]) -> str:
    """Return names as they are typed behind an option."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(names)
    return shlex.quote(text.getvalue())
