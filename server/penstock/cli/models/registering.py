"""What is typed after `penstock models register`, as values."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from penstock.core.errors import ConfigError

__all__ = ["numbers", "pairs", "read_card", "settings"]


def pairs(option: str, typed: Sequence[str]) -> dict[str, str]:
    """Read NAME=TEXT."""
    found: dict[str, str] = {}
    for item in typed:
        name, equals, text = item.partition("=")
        if not equals or not name.strip() or name.strip() in found:
            raise ConfigError(f"{option} {item!r}: write NAME=VALUE, each name once")
        found[name.strip()] = text.strip()
    return found


def numbers(typed: Sequence[str]) -> dict[str, float]:
    """Read --metric NAME=NUMBER."""
    try:
        return {name: float(text) for name, text in pairs("--metric", typed).items()}
    except ValueError as error:
        raise ConfigError(f"--metric: {error}; write NAME=NUMBER, such as accuracy=0.97") from None


def settings(typed: Sequence[str]) -> dict[str, object]:
    """Read --set NAME=VALUE, the value as TOML has it; a word that is none is a string."""
    found: dict[str, object] = {}
    for name, text in pairs("--set", typed).items():
        try:
            found[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = text
    return found


def read_card(file: Path) -> str:
    """Read a model card."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the model card {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the model card {file} is not UTF-8 text: byte {error.start}") from error
