"""Every rival that can be installed gives right answers, counts what it ran, and leaves no process behind."""

import http.client
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from bench.models import write_models
from bench.peers.catalogue import RIVALS
from bench.targets import NotInstalledError, Running, Target
from penstock.load.accounting import descendants
from penstock.load.rows import Row, TensorSpec, random_rows, same

ENVIRONMENTS = Path(__file__).parents[2] / "build" / "peers"
ROWS = 50
CONNECTIONS = 8


@pytest.mark.slow
@pytest.mark.skipif(not ENVIRONMENTS.exists(), reason="rivals are gigabytes: mkdir -p build/peers to allow them")
@pytest.mark.parametrize("factory", RIVALS.values(), ids=list(RIVALS))
def test_answers_rightly_and_leaves_nothing(factory: Callable[[], Target], tmp_path: Path) -> None:
    target = factory()
    try:
        versions = target.install(ENVIRONMENTS)
    except NotInstalledError as error:
        pytest.skip(str(error))
    assert versions["onnxruntime"] == onnxruntime.__version__

    models = write_models(tmp_path / "models")
    with target.serve(models, tmp_path / "server") as running:
        for name, path in models.items():
            ask_rows(running, name, path)
            counted = running.batches(name)
            assert counted is None or (counted.rows >= ROWS and 1 <= counted.batches <= counted.rows)
        pids = descendants(running.pid)
    assert not [pid for pid in pids if runs(pid)]


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that only waits for init to take note of its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ask_rows(running: Running, model: str, path: Path) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    inputs, outputs = (
        [TensorSpec(tensor.name, "float32", tuple(tensor.shape[1:])) for tensor in tensors]
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    rows = random_rows(inputs, ROWS)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        parts = [rows[start::CONNECTIONS] for start in range(CONNECTIONS)]
        answers = list(threads.map(lambda part: ask(running, model, part, outputs), parts))
    for part, answered in zip(parts, answers, strict=True):
        for row, answer in zip(part, answered, strict=True):
            expected = session.run(None, {name: array[np.newaxis] for name, array in row.items()})
            assert same(answer, {spec.name: array[0] for spec, array in zip(outputs, expected, strict=True)})


def ask(running: Running, model: str, rows: Sequence[Row], outputs: Sequence[TensorSpec]) -> list[Row]:
    """Ask for these rows, one after the other, over one connection."""
    host, port = running.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=300)
    answers: list[Row] = []
    try:
        for row in rows:
            request = running.dialect.request(model, row)
            connection.request("POST", request.target, request.body, dict(request.headers))
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            answers.append(running.dialect.answer(body, outputs))
    finally:
        connection.close()
    return answers
