"""What may be shown of a URL that may hold a password."""

from __future__ import annotations

import re

__all__ = ["without_secrets"]

# Up to the last @: a password may hold one, quoted or not. A path of SQLite has neither a name nor a colon before it.
_USER = re.compile(r"(//[^/@:?#]*:).*(@)", re.DOTALL)
_PARAMETER = re.compile(r"([?&][^=&]*(?:pass|secret|token|key|credential)[^=&]*=)[^&]*", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """Return a URL with *** for its password and for parameters that sound like one; other text as it is."""
    return _PARAMETER.sub(r"\1***", _USER.sub(r"\1***\2", text))
