"""What is typed behind `penstock predict MODEL`, as a row."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.cli.predict.pictures import check_picture, named_picture
from penstock.cli.served import Served, Tensor
from penstock.core.errors import ConfigError

__all__ = ["field_schema", "inputs_of", "may_be_null", "row_of_words", "usage"]


def usage(served: Served, text: str) -> ConfigError:
    """Return the exception that says what is wrong, what the model takes and a call that would work."""
    return ConfigError(f"{text}\n  {served.name} takes {served.takes()}; for example:\n  {served.call()}")


def row_of_words(served: Served, words: Sequence[str]) -> object:
    """Make a row of what was typed: values in their order, NAME=VALUE for each input or field, or one JSON value."""
    names = _names(served)
    named = [word.partition("=")[0] in names and "=" in word for word in words]
    if all(named):
        return _named_row(served, words)
    if any(named):
        stray = words[named.index(False)]
        _complain_of_a_name(served, [stray])
        raise usage(served, f"{stray!r} stands beside NAME=VALUE: give either a name to each value, or to none")
    if len(words) == 1 and (row := _object(words[0])) is not None:
        return inputs_of(served, row)
    if served.record is not None or len(served.inputs) > 1:
        _complain_of_a_name(served, words)
    if served.record is None and len(words) == len(served.inputs) > 1:
        return {tensor.name: _value(served, tensor, [word]) for tensor, word in zip(served.inputs, words, strict=True)}
    if served.record is not None or len(served.inputs) != 1:
        count = f"{len(words)} {'value' if len(words) == 1 else 'values'}"
        if served.record is not None:
            raise usage(served, f"{count} without names, and {served.name} takes a record: write NAME=VALUE for each")
        raise usage(served, f"{count} without names, and {served.name} has {len(served.inputs)} inputs")
    value = _value(served, served.inputs[0], words)
    # As JSON has them, bytes are an object, which without a name would be taken for one of inputs.
    return {served.inputs[0].name: value} if isinstance(value, bytes) else value


def inputs_of(served: Served, document: Any) -> Any:
    """Return the inputs of a whole body, as POST /predict takes it; what is none as it is."""
    if isinstance(document, dict) and "inputs" in document and "inputs" not in _names(served):
        return document["inputs"]
    return document


def _names(served: Served) -> dict[str, Tensor]:
    return {tensor.name: tensor for tensor in served.inputs}


def _object(word: str) -> object | None:
    try:
        row = json.loads(word)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _named_row(served: Served, words: Sequence[str]) -> dict[str, object]:
    row: dict[str, object] = {}
    for word in words:
        name, _, text = word.partition("=")
        if name in row:
            raise usage(served, f"{name} is given twice")
        tensor = _names(served)[name]
        if served.record is not None:
            row[name] = _field(served, tensor, text)
        else:
            row[name] = _value(served, tensor, [text])
    return row


def _complain_of_a_name(served: Served, words: Sequence[str]) -> None:
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and name.replace(".", "").replace("_", "").isalnum():
            close = difflib.get_close_matches(name, _names(served), 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise usage(served, f"{served.name} has no input {name!r}{hint}")


def _value(served: Served, tensor: Tensor, words: Sequence[str]) -> object:
    if len(words) == 1 and words[0].startswith("@") and not words[0].startswith("@@"):
        return _file_value(tensor, Path(words[0][1:]))
    if not tensor.shape:
        if len(words) != 1:
            text = f"{tensor.name} is one {tensor.dtype}, and {len(words)} values were given"
            raise usage(served, f"{text}; quote a text that has blanks" if tensor.is_text else text)
        return _scalar(served, tensor, words[0])
    if len(words) == 1 and words[0].lstrip().startswith("["):
        try:
            return json.loads(words[0])
        except ValueError as error:
            raise usage(served, f"{tensor.name}: {words[0]!r} is no JSON: {error}") from None
    if len(words) == 1 and not tensor.is_text:
        words = words[0].replace(",", " ").split()
    return _shaped(served, tensor, [_scalar(served, tensor, word) for word in words])


def _shaped(served: Served, tensor: Tensor, values: list[object]) -> object:
    """Return values in a row as nested lists of the tensor's shape."""
    rest = math.prod(n for n in tensor.shape if n is not None)
    wanted = tensor.elements
    fits = len(values) == wanted if wanted is not None else rest and len(values) and len(values) % rest == 0
    if not fits:
        count = f"{wanted} values" if wanted is not None else f"a multiple of {rest} values" if rest > 1 else "values"
        raise usage(served, f"{tensor} has {count}, and {len(values)} were given")
    nested: list[Any] = values
    for extent in reversed(tensor.shape[1:]):
        step = extent if extent is not None else max(len(values) // max(rest, 1), 1)
        nested = [nested[at : at + step] for at in range(0, len(nested), step)]
    return nested


def _file_value(tensor: Tensor, file: Path) -> object:
    """Return what a file holds for an input: its text, its bytes, or the JSON in it."""
    try:
        content = file.read_bytes()
    except OSError as error:
        hint = f"; a text that begins with @ is written @@{file}" if tensor.is_text else ""
        raise ConfigError(f"cannot read {file}: {error.strerror}{hint}") from error
    if named_picture(file):
        check_picture(str(file), content)
    if tensor.is_text:
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content
    try:
        return json.loads(content)
    except ValueError:
        return content


def _scalar(served: Served, tensor: Tensor, word: str) -> object:
    if tensor.is_text:
        return word[1:] if word.startswith("@@") else word
    value = _number(word)
    if value is None or (isinstance(value, bool) and tensor.dtype != "bool"):
        hint = f"; a file is written @{word}" if Path(word).is_file() else ""
        raise usage(served, f"{tensor.name}: {word!r} is no {tensor.dtype}{hint}")
    return bool(value) if tensor.dtype == "bool" and value in (0, 1) else value


def _number(word: str) -> bool | int | float | None:
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        return int(word)
    except ValueError:
        try:
            return float(word)
        except ValueError:
            return None


def _field(served: Served, field: Tensor, text: str) -> object:
    """Return the value of a record's field. What does not fit is told by the server, with all other faults."""
    if text.startswith("@") and not text.startswith("@@"):
        return _file_value(field, Path(text[1:]))
    schema = field_schema(served.record or {}, field.name)
    for choice in (*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())):
        if text == (choice if isinstance(choice, str) else json.dumps(choice)):
            return choice
    if text == "null" and may_be_null(schema):
        return None
    if field.shape or (not field.is_text and _number(text) is None):
        try:
            return json.loads(text)
        except ValueError:
            return text
    if field.is_text:
        return text[1:] if text.startswith("@@") else text
    return _number(text)


def may_be_null(schema: Mapping[str, Any]) -> bool:
    """Whether a field takes null."""
    kinds = schema.get("type", [])
    return "null" in (kinds if isinstance(kinds, list) else [kinds]) or any(map(may_be_null, schema.get("anyOf", ())))


def field_schema(record: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Return the schema of a record's field; nested ones have their path as name."""
    schema: Mapping[str, Any] = record
    for part in path.split("."):
        schema = schema.get("properties", {}).get(part, {})
    return schema
