"""`python -m penstock.serve [NAME=PATH ...]`: a server whose other settings come from file and environment."""

from __future__ import annotations

import os
import sys

from penstock.core.errors import PenstockError
from penstock.core.sources import load_config
from penstock.serve.serve import serve

__all__ = ["main"]


def main() -> int:
    """Serve; the exit status."""
    try:
        serve(load_config(environment=os.environ, models=sys.argv[1:]))
    except PenstockError as error:
        sys.stderr.write(f"penstock: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
