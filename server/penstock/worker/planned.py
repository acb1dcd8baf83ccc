"""The plan that lies with a model, around its backend."""

from __future__ import annotations

import logging
from pathlib import Path

from penstock.core.errors import ModelLoadError
from penstock.processing.plan_files import FILE_NAMES, find_plan, misspelt_plan
from penstock.worker.backends import Backend

__all__ = ["with_plan"]

logger = logging.getLogger("penstock.worker")


def with_plan(backend: Backend, path: Path) -> Backend:
    """Put the plan that lies with the model at `path` around its backend; ModelLoadError when it does not fit."""
    file = find_plan(path)
    if file is not None:
        from penstock.worker.processed import processed  # most models have no plan

        return processed(backend, file)
    if (misspelt := misspelt_plan(path)) is not None:
        raise ModelLoadError(f"{misspelt[0]} is no plan: did you mean {misspelt[1]}? Name it so, or take it away")
    written = path / "plan.toml"
    if written.is_file():
        logger.warning("plan.toml is not read", extra={"path": str(written), "called": " or ".join(FILE_NAMES)})
    return backend
