"""Pictures are told by how they begin, and expected by a name."""

from __future__ import annotations

from pathlib import Path

from penstock.core.errors import ConfigError

__all__ = ["SUFFIXES", "check_picture", "is_picture", "named_picture"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_BEGINNINGS = (b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF8", b"BM")


def is_picture(content: bytes) -> bool:
    """Whether bytes begin as a picture does."""
    return content.startswith(_BEGINNINGS) or (content[:4] == b"RIFF" and content[8:12] == b"WEBP")


def named_picture(file: Path) -> bool:
    """Whether a file has the name of a picture."""
    return file.suffix.lower() in SUFFIXES


def check_picture(name: str, content: bytes) -> None:
    """ConfigError for what is no picture: a model that takes raw pixels would take it for them."""
    if not is_picture(content):
        raise ConfigError(f"{name} is no picture (PNG, JPEG, WebP, GIF, BMP)")
