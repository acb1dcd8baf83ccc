"""Values on the command line that need no conversion.

Typer has pydantic convert each value, even that of what is not given, and importing pydantic takes longer than most
commands do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from typer.core import TyperArgument, TyperOption

__all__ = ["spare_conversion"]

_Process: TypeAlias = Callable[[Any, Any, Any], Any]


def spare_conversion() -> None:
    """Let Typer convert only those values that are not what they should be yet."""
    for kind in (TyperOption, TyperArgument):
        kind.process_value = _sparing(kind.process_value)  # type: ignore[assignment]


def _sparing(process: _Process) -> _Process:
    def process_value(parameter: Any, context: Any, value: Any) -> Any:
        several = parameter.multiple or parameter.nargs == -1
        # Older Typers describe no types, and have no pydantic.
        kind = getattr(parameter, "type_descriptor", None) and parameter.type_descriptor.annotation
        if kind is None or (parameter.required and not value):
            return process(parameter, context, value)
        if value is None:
            value = () if several else None
        elif several and kind == list[str]:
            value = [*value]
        elif type(value) is not kind:
            return process(parameter, context, value)
        return value if parameter.callback is None else parameter.callback(context, parameter, value)

    return process_value
