"""Every format on one server: registered, promoted and asked beside each other, and answered as their frameworks do."""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests.formats.served_models import BUILDERS, Served
from tests.serving import Server

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]

# What the frameworks' own libraries have in their paths.
LIBRARIES = ("/onnxruntime/", "/torch/", "/tensorflow/", "/xgboost/", "/sklearn/", "/numpy/")
# Eight models load at once, two of them with TensorFlow.
LOAD_SECONDS = 900.0
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Served]:
    from penstock.worker.backends.tensorflow.runtime import start_tensorflow

    start_tensorflow(1)
    return {name: build(tmp_path_factory.mktemp(name)) for name, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def server(built: Mapping[str, Served], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on which each model is registered and answers."""
    running = Server.start(["--development"], tmp_path_factory.mktemp("server"))
    try:
        for name, model in built.items():
            document = {"name": name, "path": str(model.path), "settings": dict(model.settings)}
            assert posted(running, "/models", document)["version"] == "1.0.0"
        # All at once, as they would be by several people.
        with ThreadPoolExecutor(len(built)) as people:
            list(people.map(lambda name: promoted(running, name), built))
        yield running
    finally:
        running.stop()


def posted(server: Server, path: str, document: Mapping[str, Any]) -> Any:
    reply = server.request("POST", path, json.dumps(document), JSON, seconds=LOAD_SECONDS)
    assert reply.status in (200, 201), reply.body
    return reply.json()


def promoted(server: Server, name: str) -> None:
    posted(server, f"/models/{name}/promote", {"version": "1.0.0"})


def test_each_answers_as_its_framework_does(server: Server, built: Mapping[str, Served]) -> None:
    # Rows of different models are on their way at the same time.
    asked = [(name, place) for place in range(12) for name, model in built.items() if place < len(model.rows)]
    with ThreadPoolExecutor(16) as clients:
        waiting = [clients.submit(server.predict, model=name, inputs=built[name].rows[place]) for name, place in asked]
    replies = [each.result() for each in waiting]
    for (name, place), reply in zip(asked, replies, strict=True):
        assert reply.status == 200, (name, reply.body)
        answer = reply.json()
        assert (answer["model"], answer["version"]) == (name, "1.0.0")
        expected = built[name].expected
        assert set(answer["outputs"]) == set(expected)
        for output, values in expected.items():
            np.testing.assert_allclose(
                answer["outputs"][output], values[place], rtol=1e-5, atol=1e-6, err_msg=f"{name}: {output}"
            )


def test_all_are_listed_as_ready(server: Server, built: Mapping[str, Served]) -> None:
    listed = {model["name"]: model for model in server.request("GET", "/models").json()["models"]}
    assert {name: (model["state"], model["backend"]) for name, model in listed.items()} == {
        name: ("ready", model.backend) for name, model in built.items()
    }
    assert all(model["aliases"] == ["champion"] for model in listed.values())


def test_frameworks_are_in_the_workers_alone(server: Server) -> None:
    main = psutil.Process(server.process.pid)
    workers = "".join(Path(f"/proc/{child.pid}/maps").read_text() for child in main.children(recursive=True))
    assert all(library in workers for library in LIBRARIES)
    mapped = Path(f"/proc/{main.pid}/maps").read_text()
    assert [library for library in LIBRARIES if library in mapped] == []
