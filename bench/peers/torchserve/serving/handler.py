"""TorchServe's handler; runs inside TorchServe's environment, one copy a model."""

import json
from typing import Any

from given import predictor
from ts.torch_handler.base_handler import BaseHandler


class Handler(BaseHandler):
    """One model, called with lists of requests."""

    def initialize(self, context: Any) -> None:
        """Load the model of this name."""
        self.predictor = predictor(context.manifest["model"]["modelName"])
        self.initialized = True

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        """Run a batch."""
        return self.predictor.run_rows([_row(request["body"]) for request in data])


def _row(body: Any) -> dict[str, Any]:
    """Return the parsed body; it is parsed already when it said that it is JSON."""
    row: dict[str, Any] = body if isinstance(body, dict) else json.loads(body)
    return row
