"""What the supervisor decides without a process: versions, back-off, when a model counts as failed."""

from pathlib import Path

import pytest

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.status import ModelState, WorkerState
from penstock.serve.model_workers import Instance, ModelWorkers, Phase, RestartPolicy, latest_versions
from penstock.worker.model import ModelSpec, TensorSpec
from penstock.worker.protocol import Loaded

SPEC = ModelSpec((TensorSpec("x", "float32", (4,)),), (TensorSpec("y", "float32", ()),))


def config(name: str = "m", version: str = "1", on_worker_death: OnWorkerDeath | None = None) -> ModelConfig:
    return ModelConfig(name=name, path=Path("m.onnx"), version=version, on_worker_death=on_worker_death)


def serving(instances: int = 1) -> ModelWorkers:
    """Return a model whose workers are all ready."""
    model = ModelWorkers(config(), latest=True, instances=tuple(map(Instance, range(instances))))
    model.loaded = Loaded("onnx", SPEC, rerun=True)
    model.ring = 0
    for instance in model.instances:
        instance.phase = Phase.READY
        instance.was_ready = True
    return model


@pytest.mark.parametrize(
    ("versions", "latest"),
    [
        (["1"], "1"),
        (["1", "2"], "2"),
        (["10", "9"], "10"),
        (["1.10", "1.9"], "1.10"),
        (["v2", "v1"], "v2"),
        (["blue", "green"], "green"),
        (["3", "canary"], "3"),
        (["canary", "3"], "3"),
    ],
)
def test_latest_version(versions: list[str], latest: str) -> None:
    assert latest_versions(config(version=version) for version in versions) == {"m": latest}


def test_each_model_has_a_latest_version() -> None:
    configs = [config("a", "1"), config("b", "7"), config("a", "2"), config("b", "6")]
    assert latest_versions(configs) == {"a": "2", "b": "7"}


def test_delays_double_up_to_a_bound() -> None:
    policy = RestartPolicy()
    delays = [policy.delay_after(0.0)]
    while len(delays) < 9:
        delays.append(policy.delay_after(delays[-1]))
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])


def test_deaths_in_a_row_make_a_model_a_failed_one() -> None:
    model, policy = serving(), RestartPolicy(deaths_max=3)
    for _ in range(2):
        model.count_death(completed_a_batch=False, policy=policy)
    assert model.available
    model.count_death(completed_a_batch=False, policy=policy)
    assert not model.available
    assert model.status().state is ModelState.FAILED


def test_a_completed_batch_starts_the_count_again() -> None:
    model, policy = serving(), RestartPolicy(deaths_max=3)
    for completed in (False, False, True, False):
        model.count_death(completed, policy)
    assert model.available
    model.count_death(False, policy)
    assert not model.available


def test_states_follow_the_workers() -> None:
    model = ModelWorkers(config(), latest=True, instances=(Instance(0), Instance(1)))
    assert model.status().state is ModelState.STOPPED
    for instance in model.instances:
        instance.phase = Phase.LOADING
    assert model.status().state is ModelState.LOADING
    assert not model.served

    model = serving(instances=2)
    assert model.status().state is ModelState.READY
    model.instances[0].phase = Phase.BACKING_OFF
    assert model.status().state is ModelState.READY
    model.instances[1].phase = Phase.WARMING_UP
    assert model.status().state is ModelState.RESTARTING
    assert [worker.state for worker in model.status().workers] == [WorkerState.BACKING_OFF, WorkerState.STARTING]
    assert model.available, "requests wait in the ring while a worker restarts"


def test_status_names_the_schema() -> None:
    status = serving().status()
    assert status.inputs == (("x", "float32", (4,)),)
    assert status.outputs == (("y", "float32", ()),)
    assert (status.backend, status.ring, status.rerun_on_worker_death) == ("onnx", 0, True)


@pytest.mark.parametrize("default", [True, False])
def test_configuration_beats_the_formats_default(default: bool) -> None:
    for chosen, rerun in ((None, default), (OnWorkerDeath.RERUN, True), (OnWorkerDeath.FAIL, False)):
        model = ModelWorkers(config(on_worker_death=chosen), latest=True)
        model.loaded = Loaded("python", SPEC, rerun=default)
        assert model.rerun is rerun


def test_a_version_keeps_its_schema() -> None:
    model = serving()
    assert model.contradiction(Loaded("onnx", SPEC, rerun=True)) is None
    other = ModelSpec(SPEC.inputs, (TensorSpec("y", "float64", ()),))
    assert "another schema" in (model.contradiction(Loaded("onnx", other, rerun=True)) or "")
