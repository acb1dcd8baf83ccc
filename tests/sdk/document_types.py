"""sdk/python/penstock_client/documents.py, made from sdk/contract/openapi.yaml. `make sdk-types` writes it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

__all__ = ["FILE", "as_python"]

SDK = Path(__file__).resolve().parents[2] / "sdk"
FILE = SDK / "python/penstock_client/documents.py"
# What administration answers; whatever they refer to comes with them.
ROOTS = (
    "ModelList",
    "Model",
    "Version",
    "Registered",
    "Removed",
    "Loading",
    "Unloading",
    "Alias",
    "AliasChange",
    "History",
    "KeyList",
    "NewKey",
    "OipServer",
)
HEAD = '''"""What administration answers, as types. Written from sdk/contract/openapi.yaml by `make sdk-types`."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
{names}
]
'''
PLAIN = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
    "object": "dict[str, Any]",
}


class Types:
    """The classes made so far, those that others need first."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas
        self.classes: dict[str, str] = {}

    def named(self, name: str) -> str:
        schema = self._schemas[name]
        if "properties" in schema:
            if name not in self.classes:
                self._make(name, schema)
            return name
        return self.of(schema, name)

    def of(self, schema: dict[str, Any], name: str) -> str:
        """The type of a schema; `name` is for a class that it may need."""
        if "$ref" in schema:
            return self.named(schema["$ref"].rsplit("/", 1)[1])
        if "enum" in schema:
            values = [value for value in schema["enum"] if value is not None]
            text = f"Literal[{', '.join(map(quoted, values))}]"
            return text if len(values) == len(schema["enum"]) else f"{text} | None"
        if "const" in schema:
            return f"Literal[{quoted(schema['const'])}]"
        if "anyOf" in schema:
            return " | ".join(dict.fromkeys(self.of(one, name) for one in schema["anyOf"]))
        if "properties" in schema:
            if name not in self.classes:
                self._make(name, schema)
            nullable = isinstance(schema["type"], list) and "null" in schema["type"]
            return f"{name} | None" if nullable else name
        kinds = schema.get("type", "object")
        return " | ".join(self._kind(kind, schema, name) for kind in ([kinds] if isinstance(kinds, str) else kinds))

    def _kind(self, kind: str, schema: dict[str, Any], name: str) -> str:
        if kind == "array":
            return f"list[{self.of(schema.get('items', {}), name)}]"
        if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
            return f"dict[str, {self.of(schema['additionalProperties'], name)}]"
        return PLAIN[kind]

    def _make(self, name: str, schema: dict[str, Any]) -> None:
        self.classes[name] = ""  # a class that refers to itself
        needed = set(schema.get("required", ()))
        fields = {
            member: self.of(value, name + "".join(part.capitalize() for part in member.split("_")))
            for member, value in schema["properties"].items()
        }
        text = ""
        base = "TypedDict"
        optional = {member: kind for member, kind in fields.items() if member not in needed}
        if optional:
            base = f"_{name}Optional"
            text += written(base, "TypedDict, total=False", "What may be missing", optional)
        required = {member: kind for member, kind in fields.items() if member in needed}
        text += written(name, base, sentence(name), required)
        del self.classes[name]
        self.classes[name] = text


def written(name: str, base: str, about: str, fields: dict[str, str]) -> str:
    lines = "".join(f"    {member}: {kind}\n" for member, kind in fields.items())
    return f'\n\nclass {name}({base}):\n    """{about}."""\n\n{lines}'


def sentence(name: str) -> str:
    words = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
    return f"{words[0].upper()}{words[1:]}, as docs/api.md shows it"


def quoted(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def as_python() -> str:
    """Return the file's text."""
    document = yaml.safe_load((SDK / "contract/openapi.yaml").read_text())
    types = Types(document["components"]["schemas"])
    for root in ROOTS:
        types.named(root)
    names = "\n".join(f'    "{name}",' for name in sorted(types.classes))
    return formatted(HEAD.format(names=names) + "".join(types.classes.values()))


def formatted(source: str) -> str:
    """Put source into the project's form."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format"]):
        words = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(FILE), "-"]
        source = subprocess.run(words, input=source, capture_output=True, text=True, check=True).stdout
    return source


if __name__ == "__main__":
    FILE.write_text(as_python())
    print(f"wrote {FILE.name}")
