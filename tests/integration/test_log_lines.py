"""With log_format = json every line is JSON, whichever process of the server writes it."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

from tests.integration.workers import eventually
from tests.serving import Server

MODEL = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (2,))}
        outputs = {"y": Tensor("float32", (2,))}

        def predict(self, batch):
            if batch["x"].max() > 5:
                raise ValueError("too much")
            return {"y": batch["x"]}
"""


def test_a_worker_writes_json_too(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "careful.py").write_text(textwrap.dedent(MODEL))
    server = serve("--log-format", "json", models={"careful": tmp_path / "careful.py"})
    body = json.dumps({"model": "careful", "inputs": [9, 9]})
    assert server.request("POST", "/predict", body, {"Content-Type": "application/json"}).status == 500
    eventually(lambda: "too much" in server.log.read_text())
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    (said,) = [line for line in lines if line["logger"] == "penstock.worker" and line["level"] == "error"]
    assert "ValueError: too much" in said["exception"]
    assert said["pid"] != server.process.pid
