"""Real workers that load: what they may use, at which priority, and what they must prove before they are ready."""

import json
import os
import select
import shutil
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from penstock.core.config import ModelConfig
from penstock.core.errors import ModelLoadError
from penstock.native._batcher import Ring
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.messages import Attach, Load, Loaded, Message, ModelToLoad, Ready
from tests import models
from tests.integration.supervised import DEADLINE_SECONDS, Running, until

MIB = 1 << 20

GREEDY = """
    import os
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (2,))}
        outputs = {"y": Tensor("float32", (2,))}

        def load(self):
            self.weights = bytearray(400 << 20)

        def predict(self, batch):
            return batch["x"]
"""


def written(folder: Path, source: str) -> Path:
    path = folder / "model.py"
    path.write_text(textwrap.dedent(source))
    return path


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_model_that_wants_more_memory_than_it_may_have_is_refused(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    path = written(tmp_path, GREEDY)
    with pytest.raises(ModelLoadError, match=f"more memory than .* 300 MiB \\(memory_bytes is {300 * MIB}\\): raise"):
        run(path, memory_bytes=300 * MIB)
    running = run(path, memory_bytes=700 * MIB)
    assert running.predict([1, 2])[0] == 200


def test_an_onnx_model_that_wants_more_memory_is_refused(run: Callable[..., Running], tmp_path: Path) -> None:
    path = models.mlp(tmp_path, (32, 4096, 4096, 3))
    with pytest.raises(ModelLoadError, match=f"memory_bytes is {150 * MIB}"):
        run(path, memory_bytes=150 * MIB)


def test_a_worker_without_memory_for_its_libraries_says_so(run: Callable[..., Running], tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=f"model 'm': .*memory.*memory_bytes is {16 * MIB}"):
        run(models.affine(tmp_path), memory_bytes=16 * MIB)


def test_a_process_that_is_killed_while_it_loads_may_lack_memory(run: Callable[..., Running], tmp_path: Path) -> None:
    path = written(tmp_path, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ModelLoadError, match=r"signal SIGKILL while it loaded: .* \(memory_bytes is 0, which is what"):
        run(path)


# --- golden rows ------------------------------------------------------------------------------------------------------


def golden(path: Path, *answers: float) -> None:
    rows = [[float(row)] * 4 for row in range(len(answers))]
    path.write_text(json.dumps({"inputs": {"x": rows}, "outputs": {"y": [[answer] * 4 for answer in answers]}}))


def test_a_model_that_does_not_give_its_golden_outputs_is_refused(run: Callable[..., Running], tmp_path: Path) -> None:
    path = models.affine(tmp_path)
    golden(tmp_path / "affine.golden.json", 1, 3, 5, 8, 10)
    with pytest.raises(ModelLoadError, match=r"row 3, output 'y'\[0\]: expected 8.0, got 7.0 .*; 2 of 5 rows differ"):
        run(path, max_batch_size=2)
    golden(tmp_path / "affine.golden.json", 1, 3, 5, 7, 9)
    assert run(path, max_batch_size=2).predict([1, 1, 1, 1])[0] == 200


def test_golden_rows_of_its_own_come_first(run: Callable[..., Running], tmp_path: Path) -> None:
    path = models.affine(tmp_path)
    golden(tmp_path / "golden.json", 1, 4)
    with pytest.raises(ModelLoadError, match="1 of 2 rows differ"):
        run(path)
    golden(tmp_path / "affine.golden.json", 1, 3)
    assert run(path).predict([1, 1, 1, 1])[0] == 200


def test_golden_rows_of_a_folder_lie_in_it(run: Callable[..., Running], tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    folder.mkdir()
    shutil.move(models.affine(tmp_path), folder / "model.onnx")
    golden(folder / "golden.json", 1, 4)
    with pytest.raises(ModelLoadError, match="1 of 2 rows differ"):
        run(folder)


# --- priority ---------------------------------------------------------------------------------------------------------

CURIOUS = """
    import os, threading
    from pathlib import Path
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (2,))}
        outputs = {"y": Tensor("float32", (2,))}

        def load(self):
            self.stop = threading.Event()
            threading.Thread(target=self.stop.wait, daemon=True).start()
            Path(__file__).with_name("policies").write_text(" ".join(policies()))

        def predict(self, batch):
            return batch["x"]

    def policies():
        return sorted({str(os.sched_getscheduler(int(thread))) for thread in os.listdir("/proc/self/task")})
"""


def messages(worker: WorkerProcess) -> Iterator[Message]:
    """Yield what a worker says until it hangs up."""
    while not worker.hung_up:
        readable, _, _ = select.select([worker.control], [], [], DEADLINE_SECONDS)
        assert readable, "the worker says nothing"
        yield from worker.received()


def made_ready(worker: WorkerProcess) -> None:
    """Answer a worker as the supervisor does until it is ready."""
    for message in messages(worker):
        if isinstance(message, Loaded):
            tensors = [
                [(tensor.name, tensor.dtype, tensor.shape) for tensor in side]
                for side in (message.spec.inputs, message.spec.outputs)
            ]
            ring = Ring(*tensors, max_batch_size=4, block_rows=4, queue_bytes=1 << 20, rerun_on_worker_death=True)
            loop = os.eventfd(0)
            worker.send(Attach((0,), 1), [ring.fd, loop])
            os.close(loop)
        elif isinstance(message, Ready):
            return
    raise AssertionError("the worker ended before it was ready")


@pytest.mark.parametrize("idle", [False, True])
def test_a_model_loads_at_idle_priority_and_serves_at_normal_priority(tmp_path: Path, idle: bool) -> None:
    if idle and os.geteuid() != 0:
        pytest.skip("only root may leave idle priority, by default")
    path = written(tmp_path, CURIOUS)
    worker = WorkerProcess(Load(0, (ModelToLoad("m", "1", str(path), "python"),), idle=idle))
    with closing(worker.control):
        try:
            assert os.sched_getscheduler(worker.pid) == (os.SCHED_IDLE if idle else os.SCHED_OTHER)
            made_ready(worker)
            assert (tmp_path / "policies").read_text() == str(os.SCHED_IDLE if idle else os.SCHED_OTHER)
            threads = [int(thread.name) for thread in Path(f"/proc/{worker.pid}/task").iterdir()]
            assert len(threads) > 1
            assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
        finally:
            worker.kill()
            worker.reap()


WAITING = CURIOUS.replace(
    "self.stop = threading.Event()",
    """self.stop = threading.Event()
            open(Path(__file__).with_name("go"), "rb").read()""",
)


def test_a_machine_without_time_to_spare_does_not_keep_a_model_from_loading(
    run: Callable[..., Running], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The supervisor ends the idleness: an idle worker may not even get to look at its clock."""
    monkeypatch.setattr("penstock.serve.worker_process.IDLE_SECONDS_MAX", 0.0)
    path = written(tmp_path, WAITING)
    os.mkfifo(tmp_path / "go")
    running = run([])
    added = running.supervisor.add(ModelConfig(name="m", version="1", path=path))
    until(lambda: any(model.workers[0].pid for model in running.supervisor.models()), "the worker is started")
    until(lambda: os.sched_getscheduler(running.pid()) == os.SCHED_OTHER, "the worker loads at normal priority")
    (tmp_path / "go").write_bytes(b"")
    added.result(DEADLINE_SECONDS)
    # Nor does it make itself idle again.
    assert (tmp_path / "policies").read_text() == str(os.SCHED_OTHER)
