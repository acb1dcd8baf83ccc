"""The Ray Serve application; runs inside Ray's environment and starts Ray's processes below itself."""

import signal
import sys
import threading
from typing import Any

import ray
from given import names, predictor
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

ONGOING_MAX = 1024  # as shipped 5, which no batch could exceed
OBJECT_STORE_BYTES = 100_000_000


@serve.deployment(num_replicas=1, max_ongoing_requests=ONGOING_MAX, ray_actor_options={"num_cpus": 0})
class CountedModel:
    """One model, called with lists of rows."""

    def __init__(self, name: str) -> None:
        self.predictor = predictor(name)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run a batch."""
        return self.predictor.run_rows(rows)

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer one request."""
        return JSONResponse(await self.predict(await request.json()))


def main(port: int, folder: str) -> None:
    """Serve until SIGTERM; what Ray writes goes into the folder."""
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=OBJECT_STORE_BYTES,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": port},
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    for name in names():
        serve.run(CountedModel.bind(name), name=name, route_prefix=f"/models/{name}")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # Ray has set its own before
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
