"""What the supervisor decides without a process: versions, back-off, when a model counts as failed."""

from pathlib import Path
from typing import Any

import pytest

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.status import ModelState, ModelStatus, WorkerState
from penstock.serve.placement import placement_of
from penstock.serve.served_model import ServedModel, latest_versions
from penstock.serve.worker_group import QUARANTINE_SLOT, Phase, RestartPolicy, WorkerGroup, make_groups
from penstock.worker.messages import Loaded
from penstock.worker.model import ModelSpec, TensorSpec
from penstock.worker.placement import Placement

SPEC = ModelSpec((TensorSpec("x", "float32", (4,)),), (TensorSpec("y", "float32", ()),))


def config(name: str = "m", version: str = "1", **settings: Any) -> ModelConfig:
    return ModelConfig(name=name, path=Path("m.onnx"), version=version, **settings)


def serving(instances: int = 1, **settings: Any) -> WorkerGroup:
    """Return the group of one model whose workers are all ready."""
    (group,) = make_groups([config(instances=instances, **settings)])
    group.models[0].loaded = Loaded(0, "onnx", SPEC, rerun=True)
    group.models[0].ring = 0
    for instance in group.instances:
        instance.phase = Phase.READY
        instance.was_ready = True
    return group


def status_of(group: WorkerGroup) -> ModelStatus:
    (status,) = group.statuses()
    return status


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
    group, policy = serving(), RestartPolicy(deaths_max=3)
    for _ in range(2):
        group.count_death(completed_a_batch=False, policy=policy)
    assert group.available(group.models[0])
    group.count_death(completed_a_batch=False, policy=policy)
    assert not group.available(group.models[0])
    assert status_of(group).state is ModelState.FAILED


def test_a_completed_batch_starts_the_count_again() -> None:
    group, policy = serving(), RestartPolicy(deaths_max=3)
    for completed in (False, False, True, False):
        group.count_death(completed, policy)
    assert group.available(group.models[0])
    group.count_death(False, policy)
    assert not group.available(group.models[0])


def test_states_follow_the_workers() -> None:
    (group,) = make_groups([config(instances=2)])
    assert status_of(group).state is ModelState.LOADING  # also before the first process is started
    assert not group.served
    for instance in group.instances:
        instance.phase = Phase.STOPPED
    assert status_of(group).state is ModelState.STOPPED

    group = serving(instances=2)
    assert status_of(group).state is ModelState.READY
    group.instances[0].phase = Phase.BACKING_OFF
    assert (status_of(group).state, group.workers_ready) == (ModelState.READY, 1)
    group.instances[1].phase = Phase.WARMING_UP
    assert (status_of(group).state, group.workers_ready) == (ModelState.RESTARTING, 0)
    assert [worker.state for worker in status_of(group).workers] == [WorkerState.BACKING_OFF, WorkerState.STARTING]
    assert group.available(group.models[0]), "requests wait in the ring while a worker restarts"


def test_a_worker_in_quarantine_is_shown_and_serves_nobody_else() -> None:
    group = serving()
    (ward,) = group.quarantine
    assert (ward.slot, ward.models) == (QUARANTINE_SLOT, group.models)
    ward.phase = Phase.READY
    assert [worker.state for worker in status_of(group).workers] == [WorkerState.READY, WorkerState.QUARANTINE]
    assert group.workers_ready == 1
    group.instances[0].phase = Phase.BACKING_OFF
    assert status_of(group).state is ModelState.RESTARTING


def test_status_names_the_schema() -> None:
    status = status_of(serving())
    assert status.inputs == (("x", "float32", (4,)),)
    assert status.outputs == (("y", "float32", ()),)
    assert (status.backend, status.ring, status.rerun_on_worker_death) == ("onnx", 0, True)


@pytest.mark.parametrize("default", [True, False])
def test_configuration_beats_the_formats_default(default: bool) -> None:
    for chosen, rerun in ((None, default), (OnWorkerDeath.RERUN, True), (OnWorkerDeath.FAIL, False)):
        model = ServedModel(config(on_worker_death=chosen), latest=True)
        model.loaded = Loaded(0, "python", SPEC, rerun=default)
        assert model.rerun is rerun


def test_a_version_keeps_its_schema() -> None:
    (model,) = serving().models
    assert model.contradiction(Loaded(0, "onnx", SPEC, rerun=True)) is None
    other = ModelSpec(SPEC.inputs, (TensorSpec("y", "float64", ()),))
    assert "another schema" in (model.contradiction(Loaded(0, "onnx", other, rerun=True)) or "")


def test_models_of_a_group_share_its_workers() -> None:
    configs = [config("a", group="g"), config("g"), config("b", group="g"), config("c", group="h")]
    groups = make_groups(configs)
    assert [[model.config.name for model in group.models] for group in groups] == [["a", "b"], ["g"], ["c"]]
    assert [group.label for group in groups] == ["group 'g' (models 'a', 'b')", "model 'g'", "model 'c'"]
    first = groups[0]
    assert [instance.models for instance in first.instances] == [first.models]
    assert [ward.models for ward in first.quarantine] == [(model,) for model in first.models]


def test_models_of_a_group_are_loaded_one_after_the_other() -> None:
    group, _ = make_groups(
        [config("a", group="g", load_timeout_s=5), config("b", group="g", load_timeout_s=7), config()]
    )
    assert group.instances[0].load_timeout_s == 12
    assert [ward.load_timeout_s for ward in group.quarantine] == [5, 7]


@pytest.mark.parametrize(
    ("settings", "slot", "placement"),
    [
        ({}, 0, Placement()),
        ({"cpus": (0, 1, 2, 3), "instances": 2}, 1, Placement((2, 3))),
        ({"cpus": (0, 1), "instances": 3}, 2, Placement((0, 1))),
        ({"cpus": (0, 1, 2, 3), "instances": 2}, None, Placement((0, 1, 2, 3))),
        ({"cpus": (0,), "numa_node": 0}, 0, Placement((0,), 0)),
    ],
)
def test_instances_share_the_cpus(settings: dict[str, Any], slot: int | None, placement: Placement) -> None:
    assert placement_of(config(**settings), slot) == placement


def test_states_of_a_model_that_comes_and_goes() -> None:
    group = serving()
    group.retiring = True
    assert status_of(group).state is ModelState.DRAINING
    (group,) = make_groups([config()])
    group.instances[0].phase = Phase.WARMING_UP
    assert status_of(group).state is ModelState.WARMING
