"""`penstock doctor` as a person meets it: on a machine that is well, and with one thing after another broken."""

import json
import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import penstock
from penstock import __version__
from penstock.core.devices import visible_gpus
from tests import models
from tests.databases import Postgres
from tests.redis_server import Redis, redis_server

__all__ = ["redis_server"]

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(penstock.__file__).parent
CPU_SECONDS_MAX = 2.0
WRONG_KEY = "psk_AAAAAAAA_" + "B" * 43
UNKNOWN = "the server does not know it, and refuses all that comes with it"


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    around = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return subprocess.run(
        [sys.executable, "-m", "penstock", "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**around, **(env or {})},
    )


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run it with a data folder of its own, and return its checks by name; `faults` are those it must find."""

    def examine(
        *arguments: str, env: Mapping[str, str] | None = None, faults: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        result = run("--json", *arguments, env={"PENSTOCK_DATA_DIR": str(tmp_path / "data"), **(env or {})})
        document = json.loads(result.stdout)
        checks: list[dict[str, Any]] = document["checks"]
        found = [check["name"] for check in checks if check["state"] == "fault"]
        assert sorted(found) == sorted(faults), result.stdout
        assert document["faults"] == len(found)
        assert result.returncode == (1 if found else 0)
        assert result.stderr == ""
        assert all(check["mend"] for check in checks if check["state"] != "ok")
        return checks

    return examine


def called(checks: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (check,) = (check for check in checks if check["name"] == name)
    return check


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        (tmp_path / "serve.toml").write_text(text)
        return str(tmp_path / "serve.toml")

    return write


def test_a_machine_that_is_well_has_no_fault(doctor) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    checks = doctor()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < CPU_SECONDS_MAX
    sections = list(dict.fromkeys(check["section"] for check in checks))
    assert sections == ["machine", "penstock", "libraries", "gpu", "places"]
    for name in ("python", "cpus", "memory", "open files", "shared memory", "native modules", "kernels", "settings"):
        assert called(checks, name)["state"] in ("ok", "warning")
    assert sys.executable in called(checks, "python")["text"]


def test_it_is_told_to_people_line_by_line(tmp_path: Path) -> None:
    result = run(env={"PENSTOCK_DATA_DIR": str(tmp_path / "file" / "data"), "PENSTOCK_LANE": "scalar"})
    assert result.returncode == 0
    (tmp_path / "file").touch()
    result = run(env={"PENSTOCK_DATA_DIR": str(tmp_path / "file" / "data")})
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.split()[:3] == ["fault", "data", "folder"])
    assert "cannot be made" in lines[at]
    assert lines[at + 1].strip().startswith("sudo install -d ")
    assert lines[-1].startswith("1 fault, ")
    assert "\x1b" not in result.stdout


def test_no_framework_is_imported(doctor, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("torch", "tensorflow", "keras", "onnxruntime", "sklearn", "xgboost", "pyarrow", "pandas"):
        (trap / f"{name}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write({name!r})\n")
    path = os.pathsep.join([str(trap), os.environ.get("PYTHONPATH", "")])
    model = models.affine(tmp_path)
    checks = doctor(env={"PYTHONPATH": path, "PENSTOCK_CONFIG": str(_serving(tmp_path, model))})
    assert called(checks, "settings")["text"] == "right; 1 model configured"
    assert not (tmp_path / "sprung").exists()


def _serving(folder: Path, model: Path) -> Path:
    file = folder / "one.toml"
    file.write_text(f'[models.m]\npath = "{model}"\n')
    return file


def test_wrong_settings_are_faults(doctor, config) -> None:
    file = config('[server]\nprot = 1\n[models.m]\npath = "missing.onnx"\nmax_batch_size = 0\n')
    checks = doctor("--config", file, faults=["settings", "settings"])
    texts = [check["text"] for check in checks if check["name"] == "settings"]
    assert "line 2: [server] prot: unknown setting; did you mean 'port'?" in texts[0]
    assert all(check["mend"] == f"penstock config validate {file}" for check in checks if check["name"] == "settings")


@pytest.mark.parametrize("extra_env", [{"PENSTOCK_LANE": "avx9000"}])
def test_a_lane_that_is_none_is_a_fault(doctor, extra_env: dict[str, str]) -> None:
    check = called(doctor(env=extra_env, faults=["kernels"]), "kernels")
    assert "avx9000" in check["text"]
    assert check["mend"] == "unset PENSTOCK_LANE"


def test_a_slow_lane_is_a_warning(doctor) -> None:
    check = called(doctor(env={"PENSTOCK_LANE": "scalar"}), "kernels")
    several = check["text"] != "the lane scalar, of scalar"
    assert check["state"] == ("warning" if several else "ok")


def package(folder: Path, *without: str) -> Path:
    """Copy the package, without some of its native modules."""
    ignored = shutil.ignore_patterns("__pycache__", *(f"{name}.*.so" for name in without))
    shutil.copytree(PACKAGE, folder / "copy/server/penstock", ignore=ignored)
    return folder / "copy/server"


def beside(place: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(place), str(ROOT / "sdk/python")])}


def test_modules_that_are_not_built_are_a_fault(doctor, tmp_path: Path) -> None:
    place = package(tmp_path, "_batcher")
    check = called(doctor(env=beside(place), faults=["native modules"]), "native modules")
    assert check["text"] == "_batcher is not built"
    assert check["mend"] == f"pip install ./sdk/python .  # in a checkout of Penstock {__version__}"
    (tmp_path / "copy/CMakeLists.txt").touch()
    (tmp_path / "copy/Makefile").touch()
    check = called(doctor(env=beside(place), faults=["native modules"]), "native modules")
    assert check["mend"] == f"make -C {tmp_path / 'copy'} native"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n", "they end the process that loads them: SIGILL"),
        ("raise ImportError('libfoo.so.1: no such file')\n", "_kernels ImportError: libfoo.so.1: no such file"),
        ("def lanes(): return ['scalar']\n", "_kernels is of another version than its Python: it has no dtypes, lane"),
    ],
)
def test_modules_that_do_not_work_are_a_fault(doctor, tmp_path: Path, source: str, told: str) -> None:
    place = package(tmp_path, "_kernels")
    (place / "penstock/native/_kernels.py").write_text(source)
    check = called(doctor(env=beside(place), faults=["native modules"]), "native modules")
    assert told in check["text"]


def installed(folder: Path, name: str, version: str) -> dict[str, str]:
    """Make a distribution seem to be installed in another version."""
    metadata = folder / "site" / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])}


def test_a_library_of_a_version_that_is_not_supported_is_told(doctor, tmp_path: Path) -> None:
    env = installed(tmp_path, "onnxruntime", "99.0")
    check = called(doctor(env=env), "onnx")
    assert (check["state"], check["mend"]) == ("warning", "pip install 'penstock[onnx]'")
    assert "onnxruntime 99.0, of which >=1.20,<2 is supported" in check["text"]
    # Where a model is to be run with it, it is a fault.
    file = _serving(tmp_path, models.affine(tmp_path))
    check = called(doctor("--config", str(file), env=env, faults=["onnx"]), "onnx")
    assert check["text"].startswith("model 'm' needs it: ")


def test_a_library_that_the_settings_need_is_told(doctor, tmp_path: Path, config) -> None:
    env = installed(tmp_path, "redis", "1.0")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    file = config(f'[server]\ncache_redis = "redis://:hunter2@127.0.0.1:{port}/0"\n')
    checks = doctor("--config", file, env=env, faults=["redis", "redis"])
    library, place = (check for check in checks if check["name"] == "redis")
    assert library["mend"] == "pip install 'penstock[redis]'"
    assert place["text"].startswith(f"redis://:***@127.0.0.1:{port}/0 does not answer: ")
    assert "hunter2" not in json.dumps(checks)


@pytest.mark.parametrize("redis_server", ["hunter2"], indirect=True)
def test_redis_is_asked(doctor, redis_server: Redis, config) -> None:
    url = redis_server.url.replace("//", "//:hunter2@")
    checks = doctor("--config", config(f'[server]\ncache_redis = "{url}"\n'))
    assert [check["state"] for check in checks if check["name"] == "redis"] == ["ok", "ok"]
    checks = doctor("--config", config(f'[server]\ncache_redis = "{redis_server.url}"\n'), faults=["redis"])
    assert doctor(
        "--config", config(f'[server]\ncache_redis = "{redis_server.url}"\n'), env={"REDISCLI_AUTH": "hunter2"}
    )


def test_a_port_in_use_is_told_with_its_holder(doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        check = called(doctor(env={"PENSTOCK_PORT": str(port)}), "port")
        assert check["state"] == "warning"
        assert f"{port} is in use by " in check["text"]
        assert f"(pid {os.getpid()})" in check["text"]
        assert check["mend"] == "penstock serve --port 0 ..."
    check = called(doctor(env={"PENSTOCK_PORT": str(port)}), "port")
    assert (check["state"], check["text"]) == ("ok", f"{port} is free")


def test_the_registry_is_looked_at_and_not_made(doctor, tmp_path: Path) -> None:
    assert "the first server makes it" in called(doctor(), "registry")["text"]
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data/penstock.db")) as database:
        database.execute("CREATE TABLE migrations (number BIGINT PRIMARY KEY, name TEXT, at BIGINT)")
        database.execute("INSERT INTO migrations VALUES (999, 'x', 0)")
        database.commit()
    check = called(doctor(faults=["registry"]), "registry")
    assert "has schema 999, which a newer Penstock made" in check["text"]
    (tmp_path / "data/penstock.db").write_bytes(b"no database" * 100)
    assert "file is not a database" in called(doctor(faults=["registry"]), "registry")["text"]


def test_a_registry_in_postgresql_is_asked(doctor, postgres: Postgres) -> None:
    url = postgres.new_database()
    check = called(doctor(env={"PENSTOCK_STORE": url}), "registry")
    assert "the first server makes it" in check["text"]
    keys = [sys.executable, "-m", "penstock", "keys", "list", "--store", url]
    subprocess.run(keys, check=True, capture_output=True)
    assert "schema 2" in called(doctor(env={"PENSTOCK_STORE": url}), "registry")["text"]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    gone = f"postgresql://me:hunter2@127.0.0.1:{port}/db"
    check = called(doctor(env={"PENSTOCK_STORE": gone}, faults=["registry"]), "registry")
    assert check["mend"] == f"pg_isready -d 'postgresql://me:***@127.0.0.1:{port}/db'"
    assert "hunter2" not in json.dumps(check)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def test_what_never_answers_is_given_up(doctor, silent: int) -> None:
    url = f"http://127.0.0.1:{silent}"
    env = {
        "PENSTOCK_STORE": f"postgresql://me@127.0.0.1:{silent}/db",
        "PENSTOCK_CACHE_REDIS": f"redis://127.0.0.1:{silent}",
    }
    doctor("--url", url, env=env, faults=["registry", "redis", "server"])


def test_a_server_that_runs_is_asked(doctor, serve, model_folder: Path, tmp_path: Path) -> None:
    server = serve(models={"m": model_folder / "affine.onnx"})
    checks = doctor("--url", server.url)
    assert called(checks, "server")["text"] == f"{server.url} is Penstock {__version__}, as is this"
    assert called(checks, "readiness")["text"] == "ready"
    assert called(checks, "key")["text"] == "none: it is needed to administer"
    store = str(server.log.parent / "data")
    for role, told in (("admin", "has the role admin"), ("operator", "has the role operator")):
        key = make_key(store, role)
        assert eventually_told(doctor, server.url, key, told)
    checks = doctor("--url", server.url, env={"PENSTOCK_API_KEY": WRONG_KEY}, faults=["key"])
    assert called(checks, "server")["text"] == f"{server.url} answers, and refuses this key"
    assert called(checks, "key")["text"] == UNKNOWN


def test_a_server_that_needs_a_key_is_a_fault_without_one(doctor, serve, model_folder: Path) -> None:
    server = serve("--require-key", models={"m": model_folder / "affine.onnx"})
    checks = doctor("--url", server.url, faults=["key"])
    assert called(checks, "server")["text"] == f"{server.url} answers, and lets nobody in without a key"
    assert called(checks, "key")["text"] == "none: this server answers nobody without one, predictions neither"
    checks = doctor("--url", server.url, env={"PENSTOCK_API_KEY": WRONG_KEY}, faults=["key"])
    assert called(checks, "key")["text"] == UNKNOWN
    key = make_key(str(server.log.parent / "data"), "predict")
    assert eventually_told(doctor, server.url, key, "has the role predict")


def test_a_server_that_is_not_there_is_a_fault(doctor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    gone = called(doctor("--url", url, faults=["server"]), "server")
    assert url in gone["text"]
    assert gone["mend"].startswith("penstock serve")


def make_key(data: str, role: str) -> str:
    command = [sys.executable, "-m", "penstock", "keys", "create", role, "--role", role, "--data-dir", data]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def eventually_told(doctor, url: str, key: str, told: str) -> bool:
    """Servers take a new key within two seconds; until then it is unknown to them."""
    for _ in range(60):
        result = run("--json", "--url", url, env={"PENSTOCK_API_KEY": key})
        check = called(json.loads(result.stdout)["checks"], "key")
        if check["text"] == told:
            return True
        assert check["text"] == UNKNOWN
    return False


def test_a_server_in_development_needs_no_key(doctor, serve, model_folder: Path) -> None:
    server = serve("--development", models={"m": model_folder / "affine.onnx"})
    port = server.port
    checks = doctor("--url", server.url, env={"PENSTOCK_PORT": str(port)})
    assert called(checks, "key")["text"] == "none, and none is needed: development mode"
    # It is expected to hold its port.
    check = called(checks, "port")
    assert check["state"] == "ok"
    assert f"{port} is in use by penstock (pid {server.process.pid})" in check["text"]


def test_a_check_that_fails_itself_does_not_hide_the_others(doctor) -> None:
    long = {"PENSTOCK_DATA_DIR": f"/tmp/{'x' * 300}"}
    checks = doctor("--url", "http://127.0.0.1:1", env=long, faults=["server"])
    check = called(checks, "doctor")
    assert (check["section"], check["state"], check["mend"]) == ("places", "warning", "penstock doctor --debug")
    assert "File name too long" in check["text"]
    assert "Traceback" in run("--debug", env=long).stderr


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://"])
def test_a_url_that_is_none_is_wrong_usage(url: str) -> None:
    result = run("--url", url)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("penstock: ")


@pytest.mark.skipif(visible_gpus() > 0, reason="this machine has a GPU")
def test_a_gpu_that_is_asked_for_and_not_there_is_a_fault(doctor, tmp_path: Path) -> None:
    (check,) = (check for check in doctor() if check["section"] == "gpu")
    assert check["text"] == "none here; models run on the CPU"
    model = models.affine(tmp_path)
    file = tmp_path / "gpu.toml"
    file.write_text(f'[models.m]\npath = "{model}"\ndevice = "cuda:0"\n')
    result = run("--json", "--config", str(file))
    faults = [check for check in json.loads(result.stdout)["checks"] if check["state"] == "fault"]
    assert result.returncode == 1
    assert any(check["name"] == "gpu" for check in faults)


@pytest.mark.skipif(visible_gpus() > 0 or shutil.which("g++") is None, reason="this machine has a GPU, or no g++")
def test_a_gpu_is_described(tmp_path: Path) -> None:
    """By a stand-in for the driver that runs on the host."""
    pytest.importorskip("cuda.bindings", reason="needs cuda-bindings")
    sources = [ROOT / "tests/cuda_driver/driver.cpp", ROOT / "kernels/src/device/host.cpp"]
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-ffp-contract=off", f"-I{ROOT / 'kernels/include'}"]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(tmp_path / "libcuda.so.1"), "-ldl"], check=True)
    result = run("--json", env={"LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": "0"})
    told = [check["text"] for check in json.loads(result.stdout)["checks"] if check["name"] == "gpu"]
    assert any(text.startswith("cuda:0 is ") and "compute capability" in text for text in told), told
