"""The mosec service: `app.py json --port 8000`, or `msgpack`. Runs inside mosec's environment."""

import os
import sys

from given import names, predictor
from mosec import Runtime, Server, Worker
from mosec.mixin import MsgpackMixin

MAX_BATCH_SIZE = 64
MAX_WAIT_MS = 1
MODEL_VARIABLE = "RIVAL_MODEL"  # which model a worker process loads: mosec makes its workers without arguments


class JsonWorker(Worker):
    """One model; a row is a JSON object by input name."""

    def __init__(self):
        super().__init__()
        self._predictor = predictor(os.environ[MODEL_VARIABLE])

    def forward(self, data):
        """Run a batch."""
        return self._predictor.run_rows(data)


class MsgpackWorker(MsgpackMixin, JsonWorker):
    """One model; a row is a msgpack map by input name."""


def main():
    """Serve every model at a route of its name; mosec reads its own options from the command line."""
    worker = {"json": JsonWorker, "msgpack": MsgpackWorker}[sys.argv[1]]
    server = Server()
    server.register_runtime(
        {
            f"/models/{name}": [
                Runtime(worker, max_batch_size=MAX_BATCH_SIZE, max_wait_time=MAX_WAIT_MS, env=[{MODEL_VARIABLE: name}])
            ]
            for name in names()
        }
    )
    server.run()


if __name__ == "__main__":
    main()
