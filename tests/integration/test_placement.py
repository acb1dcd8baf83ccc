"""CPUs, NUMA nodes and schedules: what was asked for is what the threads and processes got."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.config import ModelConfig, Scheduling, ServerConfig
from penstock.core.cpus import format_cpus
from penstock.core.errors import ConfigError
from penstock.serve.placement import check_placement
from tests.integration.workers import workers
from tests.serving import Server

CPUS = sorted(os.sched_getaffinity(0))
ABSENT = max(CPUS) + 1


def model(**settings: object) -> ModelConfig:
    return ModelConfig(name="m", path=Path("m.onnx"), **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ServerConfig(io_cpus=(ABSENT,)), rf"io_cpus = '{ABSENT}': this process may not run on {ABSENT}; it may on "),
        (ServerConfig(models=(model(cpus=(ABSENT,)),)), rf"model 'm': cpus = '{ABSENT}': this process may not run on"),
        (ServerConfig(models=(model(numa_node=1023),)), r"model 'm': numa_node = 1023: there is no NUMA node 1023"),
    ],
)
def test_what_this_machine_lacks_is_named(config: ServerConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_placement(config)


def test_threads_and_workers_run_where_they_were_told(serve: Callable[..., Server], model_folder: Path) -> None:
    last = str(CPUS[-1])
    flags = ["--io-threads", "2", "--io-cpus", last, "--cpus", format_cpus(CPUS), "--instances", str(len(CPUS))]
    server = serve(*flags, models={"affine": model_folder / "affine.onnx"}, env={"PENSTOCK_INTRA_OP_THREADS": "2"})
    assert server.predict(inputs=[1, 2, 3, 4]).status == 200
    tasks = Path(f"/proc/{server.process.pid}/task")
    io_threads = [int(task.name) for task in tasks.iterdir() if (task / "comm").read_text() == "penstock-io\n"]
    assert [os.sched_getaffinity(thread) for thread in io_threads] == [{CPUS[-1]}] * 2
    # As many CPUs as instances: each has its own, for all of its threads.
    for cpu, worker in zip(CPUS, workers(server, "affine"), strict=True):
        threads = [int(task.name) for task in Path(f"/proc/{worker['pid']}/task").iterdir()]
        assert all(os.sched_getaffinity(thread) == {cpu} for thread in threads)


def test_a_workers_memory_comes_from_its_node(serve: Callable[..., Server], model_folder: Path) -> None:
    program = "from penstock.worker.placement import *; place_this_process(Placement((), 0))"
    if subprocess.run([sys.executable, "-c", program], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no NUMA nodes here, or no right to bind memory to one")
    server = serve("--numa-node", "0", models={"affine": model_folder / "affine.onnx"})
    assert server.predict(inputs=[1, 2, 3, 4]).status == 200
    (worker,) = workers(server, "affine")
    policies = re.findall(r"^\w+ (\S+) .*heap", Path(f"/proc/{worker['pid']}/numa_maps").read_text(), re.MULTILINE)
    assert set(policies) == {"bind:0"}  # the kernel may show one heap in several pieces


@pytest.mark.parametrize("rule", list(Scheduling))
def test_models_are_served_by_either_rule(serve: Callable[..., Server], model_folder: Path, rule: Scheduling) -> None:
    named = dict.fromkeys(("a", "b"), model_folder / "affine.onnx")
    server = serve("--scheduling", rule, models=named, env={"PENSTOCK_GROUP": "g", "PENSTOCK_SLO_MS": "60000"})
    for name in named:
        assert server.predict(model=name, inputs=[1, 2, 3, 4]).json()["outputs"]["y"] == [3, 5, 7, 9]
