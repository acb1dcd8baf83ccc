"""The LitServe application; runs inside LitServe's environment."""

import sys
from typing import Any

import litserve
from given import names, predictor


class CountedModel(litserve.LitAPI):
    """One model, called with lists of rows."""

    def __init__(self, name: str) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.001, api_path=f"/models/{name}")
        self.name = name

    def setup(self, device: str) -> None:
        """Load the model, in the worker process."""
        self.predictor = predictor(self.name)

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leave the rows to the predictor, which makes one array of them."""
        return inputs

    def predict(self, x: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run a batch."""
        return self.predictor.run_rows(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers, one a row."""
        return output


if __name__ == "__main__":
    models = [CountedModel(name) for name in names()]
    server = litserve.LitServer(models, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
