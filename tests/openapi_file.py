"""sdk/contract/openapi.yaml: the interface description that the server gives, as YAML. `make openapi` writes it."""

from pathlib import Path
from typing import Any

import yaml

from penstock.control.openapi import openapi_document

__all__ = ["FILE", "as_yaml"]

FILE = Path(__file__).resolve().parents[1] / "sdk/contract/openapi.yaml"
HEADER = "# Written from the code by `make openapi`; the server gives the same document as /openapi.json.\n"


class _Plain(yaml.SafeDumper):
    """Writes what occurs twice twice: references of YAML are nothing that every reader of OpenAPI follows."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml() -> str:
    """Return the file's text."""
    return HEADER + yaml.dump(openapi_document(), Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    FILE.write_text(as_yaml())
    print(f"wrote {FILE.name}")
