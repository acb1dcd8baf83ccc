"""The BentoML service; runs inside BentoML's environment."""

from collections.abc import Callable
from typing import Any

import bentoml
import numpy as np
from given import names, predictors

MAX_LATENCY_MS = 10_000


def _method(model: str, index: int) -> Callable[..., Any]:
    """Make the method that answers for one model: an array of rows in, an array of rows out."""

    def predict(self: Any, inputs: np.ndarray) -> np.ndarray:
        predictor = self.predictors[model]
        (given,), (_,) = predictor.inputs, predictor.outputs  # a batchable method takes and returns one array
        (answers,) = predictor.run({given.name: inputs.astype(given.dtype, copy=False)})
        return answers

    predict.__name__ = f"predict_{index}"
    return bentoml.api(route=f"/models/{model}", batchable=True, max_batch_size=64, max_latency_ms=MAX_LATENCY_MS)(
        predict
    )


def _load(self: Any) -> None:
    self.predictors = predictors()


methods = {f"predict_{index}": _method(model, index) for index, model in enumerate(names())}
Rival = bentoml.service(
    workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}}
)(type("Rival", (), {"__init__": _load, **methods}))
