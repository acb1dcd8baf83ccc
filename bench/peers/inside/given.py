"""The models that a rival was given to serve. Runs inside the rivals' environments."""

from __future__ import annotations

import json
import os

from predictor import Predictor  # type: ignore[import-not-found]

__all__ = ["names", "predictor", "predictors"]

MODELS: dict[str, dict[str, str]] = json.loads(os.environ["RIVAL_MODELS"])


def names() -> list[str]:
    """Return the models' names."""
    return list(MODELS)


def predictor(name: str) -> Predictor:
    """Load one model."""
    return Predictor(MODELS[name]["path"], MODELS[name]["counts"])


def predictors() -> dict[str, Predictor]:
    """Load every model."""
    return {name: predictor(name) for name in names()}
