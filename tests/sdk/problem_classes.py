"""sdk/python/penstock_client/problems.py, made from sdk/contract/problems.json. `make sdk-types` writes it."""

import json
import textwrap
from pathlib import Path

__all__ = ["FILE", "as_python", "class_name"]

SDK = Path(__file__).resolve().parents[2] / "sdk"
FILE = SDK / "python/penstock_client/problems.py"
HEAD = '''"""A class for each code of the catalogue. Written from sdk/contract/problems.json by `make sdk-types`."""

from __future__ import annotations

from penstock_client.errors import ClientError, RefusedError, ServerError

__all__ = [
{names}
]
'''
CLASS = """

class {name}({bases}):
    {docstring}

    code = "{code}"
    status = {status}
    title = "{title}"
    retryable = {retryable}
"""
TAIL = """

CLASSES: dict[str, type[RefusedError]] = {{
    kind.code: kind
    for kind in (
{names}
    )
}}
"""
# What would hide a name of Python's own.
RENAMED = {"not_implemented": "NotImplementedByServerError"}
# Of these, the request has run, or may have.
MAY_HAVE_RUN = ("model_error", "internal_error", "worker_died", "deadline_exceeded")


def class_name(code: str) -> str:
    """queue_full -> QueueFullError."""
    if code in RENAMED:
        return RENAMED[code]
    name = "".join(part.capitalize() for part in code.split("_"))
    return name if name.endswith("Error") else name + "Error"


def as_python() -> str:
    """Return the file's text."""
    catalogue = json.loads((SDK / "contract/problems.json").read_text())
    names = {entry["code"]: class_name(entry["code"]) for entry in catalogue}
    parts = [HEAD.format(names="\n".join(f'    "{name}",' for name in ["CLASSES", *sorted(names.values())]))]
    for entry in catalogue:
        base = "ClientError" if entry["status"] < 500 else "ServerError"
        late = ", TimeoutError" if entry["code"].startswith("deadline_") else ""
        said = docstring(entry["title"], entry["description"])
        text = CLASS.format(**entry, name=names[entry["code"]], bases=base + late, docstring=said)
        parts.append(text + ("    may_have_run = True\n" if entry["code"] in MAY_HAVE_RUN else ""))
    parts.append(TAIL.format(names="\n".join(f"        {name}," for name in names.values())))
    return "".join(parts)


def docstring(title: str, description: str) -> str:
    """Return a docstring: the title, and the description in lines that are not too long."""
    return f'"""{title}.\n\n    ' + "\n    ".join(textwrap.wrap(description, 114)) + '\n    """'


if __name__ == "__main__":
    FILE.write_text(as_python())
    print(f"wrote {FILE.name}")
