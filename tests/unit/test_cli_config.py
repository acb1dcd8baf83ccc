"""`penstock config` as a person meets it: what is shown, what is found wrong, and how it ends."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.secrets import without_secrets
from penstock.core.settings import settings_of
from penstock.core.sources import load_config

ROOT = Path(__file__).resolve().parents[2]


def penstock(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    around = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "OTEL_", "XDG_"))}
    return subprocess.run(
        [sys.executable, "-m", "penstock", "config", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**around, "HOME": "/home/someone", **(env or {})},
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_file(text: str) -> Path:
        (tmp_path / "serve.toml").write_text(text)
        (tmp_path / "m.onnx").touch()
        return tmp_path

    return write_file


def shown(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
    result = penstock("show", "--json", *arguments, cwd=folder, env=env)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


def mistakes(folder: Path, *arguments: str, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    result = penstock("validate", "--json", *arguments, cwd=folder, env=env)
    assert (result.returncode, result.stderr) == (2, "")
    document = json.loads(result.stdout)
    assert document["valid"] is False
    return list(document["mistakes"])


def test_every_setting_is_shown_with_its_value(tmp_path: Path) -> None:
    document = shown(tmp_path, "m=m.onnx")
    assert list(document["server"]) == list(settings_of(ServerConfig))
    (model,) = document["models"]
    assert (model["name"], model["version"]) == ("m", "1")
    assert list(model["settings"]) == list(settings_of(ModelConfig))
    assert document["server"]["port"] == {"value": 8000, "from": "default"}
    assert model["settings"]["path"] == {"value": "m.onnx", "from": "argument", "name": "m=m.onnx"}
    # What a server takes where nothing is said is told, too.
    assert document["server"]["data_dir"] == {"value": "/home/someone/.local/share/penstock", "from": "default"}


def test_every_source_is_told(write) -> None:
    folder = write(
        '[server]\nport = 1\nio_threads = 2\n\n[models.m]\npath = "m.onnx"\nbatch_sizes = [\n  1,\n  8,\n]\n'
    )
    env = {
        "PENSTOCK_IO_THREADS": "3",
        "PENSTOCK_SLO_MS": "7",
        "OTEL_SERVICE_NAME": "shop",
    }
    document = shown(folder, "--config", "serve.toml", "--log-level", "error", "--development", env=env)
    server, settings = document["server"], document["models"][0]["settings"]
    assert server["port"] == {"value": 1, "from": "file", "file": "serve.toml", "line": 2}
    assert server["io_threads"] == {"value": 3, "from": "environment", "name": "PENSTOCK_IO_THREADS"}
    assert server["log_level"] == {"value": "error", "from": "flag", "name": "--log-level"}
    assert server["development"] == {"value": True, "from": "flag", "name": "--development"}
    assert server["require_key"] == {"value": False, "from": "default"}
    assert server["trace_service_name"] == {"value": "shop", "from": "environment", "name": "OTEL_SERVICE_NAME"}
    assert settings["slo_ms"] == {"value": 7, "from": "environment", "name": "PENSTOCK_SLO_MS"}
    assert settings["batch_sizes"]["value"] == [1, 8]
    assert settings["max_batch_size"] == {"value": 8, "from": "file", "file": "serve.toml", "line": 7}
    assert document["every_model"] == {"slo_ms": settings["slo_ms"]}


def test_what_is_changed_is_shown_to_people(write) -> None:
    folder = write('[server]\nport = 1\n[models.m]\npath = "m.onnx"\nqueue_bytes = "1MiB"\ncpus = "0-1"\n')
    result = penstock("show", "--changed", cwd=folder, env={"PENSTOCK_CONFIG": "serve.toml"})
    assert result.returncode == 0
    assert re.sub(r" +", " ", result.stdout) == (
        "server\nSETTING VALUE FROM\nport 1 serve.toml:2\n\nmodel m, version 1\nSETTING VALUE FROM\n"
        "name m serve.toml:3\npath m.onnx serve.toml:4\nqueue_bytes 1MiB serve.toml:5\ncpus 0-1 serve.toml:6\n"
    )
    assert "as by default" in penstock("show", "--changed", cwd=folder).stdout


def test_no_password_is_shown(write) -> None:
    folder = write(
        '[server]\nstore = "postgresql://me:hunter2@sec@db/x?sslpassword=hunter2"\n'
        'cache_redis = "redis://:hunter2%2F@localhost/0?password=hunter2"\n'
        'trace_endpoint = "https://me:hunter2@collector"\nartefacts = "s3://key:hunter2@bucket/x"\n'
    )
    for arguments in (("--json",), ()):
        result = penstock("show", "--config", "serve.toml", *arguments, cwd=folder)
        assert result.returncode == 0
        assert "hunter2" not in result.stdout
        assert "postgresql://me:***@db/x?sslpassword=***" in result.stdout


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://a:b/c@d@host/x", "postgresql://a:***@host/x"),
        ("redis://:p@h/0?db=1&password=x&client_name=me", "redis://:***@h/0?db=1&password=***&client_name=me"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ("/srv/models:old@2", "/srv/models:old@2"),
    ],
)
def test_urls_are_shown_without_their_secrets(url: str, told: str) -> None:
    assert without_secrets(url) == told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "--port", "x"], "penstock: --port = 'x': expected a whole number from 0 to 65535\n"),
        (["show", "--prot", "1"], "No such option: --prot"),
        (["show", "--config", "no.toml"], "penstock: cannot read the configuration file no.toml"),
        (["show", "--development", "--host", "::"], "penstock: development lets everyone administer"),
    ],
)
def test_what_cannot_be_shown_is_told(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = penstock(*arguments, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_show_takes_what_serve_takes(tmp_path: Path) -> None:
    ours = penstock("show", "--help", cwd=tmp_path).stdout
    serve = subprocess.run(
        [sys.executable, "-m", "penstock", "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    flags = set(re.findall(r"^ +(--[a-z-]+)", serve, re.M))
    assert "--max-batch-size" in flags
    assert flags <= set(re.findall(r"^ +(--[a-z-]+)", ours, re.M))


def test_right_settings_are_told_in_a_sentence(write) -> None:
    folder = write('[server]\nport = 9000\n[models.m]\npath = "m.onnx"\n')
    result = penstock("validate", "serve.toml", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "serve.toml is right: 1 model at 127.0.0.1:9000\n"
    named = penstock("validate", cwd=folder, env={"PENSTOCK_CONFIG": "serve.toml"})
    assert named.stdout == result.stdout
    alone = "no file was given, and the settings of the environment alone are right: no model at 127.0.0.1:8000"
    assert penstock("validate", cwd=folder).stdout == f"{alone}\n"
    (folder / "penstock.toml").touch()
    unread = "; penstock.toml here was not read: penstock config validate penstock.toml"
    assert penstock("validate", cwd=folder).stdout == f"{alone}{unread}\n"
    document = json.loads(penstock("validate", "serve.toml", "--json", cwd=folder).stdout)
    assert document == {"valid": True, "mistakes": []}


def test_all_mistakes_are_told_at_once(write) -> None:
    folder = write(
        '[server]\nprot = 1\nport = "8000"\n\n[models.a]\npath = "m.onnx"\nmax_batch_size = 0\n'
        '[models.b]\nversion = "latest"\n[modles.c]\n'
    )
    found = mistakes(folder, "serve.toml", env={"PENSTOCK_IO_THREADS": "none", "PENSTOCK_XYZZY": "1"})
    assert [(each["line"], each["setting"]) for each in found] == [
        (2, "server.prot"),
        (3, "server.port"),
        (7, "models.a.max_batch_size"),
        (8, "models.b"),
        (9, "models.b.version"),
        (10, "modles"),
        (None, "io_threads"),
        (None, "PENSTOCK_XYZZY"),
    ]
    assert all(each["file"] == ("serve.toml" if each["line"] else None) for each in found)
    told = penstock("validate", "serve.toml", cwd=folder)
    assert told.returncode == 2
    assert told.stdout.startswith("serve.toml: line 2: [server] prot: unknown setting; did you mean 'port'?\n")
    # A server that starts says the first of them, in the same words.
    with pytest.raises(Exception, match=r"line 10: \[modles\]: unknown table; did you mean 'models'"):
        load_config(file=folder / "serve.toml")


def test_what_contradicts_this_machine_is_told(write) -> None:
    folder = write(
        '[server]\nhost = "0.0.0.0"\ndevelopment = true\ntls_cert = "m.onnx"\ntls_key = "m.onnx"\n'
        'unix_socket = "no/such/folder/socket"\nio_cpus = "8000"\n'
        '[models.m]\npath = "m.onnx"\nbatch_sizes = [1, 8]\nmax_batch_size = 9\ncpus = "8001"\n'
        '[models.other]\npath = "missing.onnx"\n[models.text]\npath = "serve.toml"\n'
    )
    found = mistakes(folder, "serve.toml")
    told = [(each["line"], each["setting"], each["text"]) for each in found]
    expected = [
        (3, "server.development", "development lets everyone administer"),
        (4, "server.tls_cert", "are no certificate and its key"),
        (6, "server.unix_socket", "there is no folder"),
        (7, "server.io_cpus", "this process may not run on 8000"),
        (10, "models.m.batch_sizes", "the largest of batch_sizes (8) must be max_batch_size (9)"),
        (12, "models.m.cpus", "this process may not run on 8001"),
        (14, "models.other.path", "model 'other': there is no "),
        (16, "models.text.path", "is no model that Penstock knows"),
    ]
    assert [each[:2] for each in told] == [each[:2] for each in expected]
    for (_, _, text), (_, _, part) in zip(told, expected, strict=True):
        assert part in text


def test_files_that_cannot_be_written_are_told(write) -> None:
    folder = write('[server]\naccess_log = "no/folder/log"\ndata_dir = "serve.toml/data"\n')
    found = mistakes(folder, "serve.toml")
    assert [(each["line"], each["setting"]) for each in found] == [(2, "server.access_log"), (3, "server.data_dir")]
    assert "there is no folder no/folder" in found[0]["text"]
    assert found[1]["text"].endswith("serve.toml is no folder")
    (folder / "no/folder").mkdir(parents=True)
    write('[server]\naccess_log = "no/folder/log"\ndata_dir = "no/data/of/mine"\n')
    assert penstock("validate", "serve.toml", cwd=folder).returncode == 0
    assert not (folder / "no/data").exists()
    (found_one,) = mistakes(folder, "serve.toml", env={"PENSTOCK_ACCESS_LOG": "no/folder"})
    assert "no file that this user may write" in found_one["text"]


def test_what_python_models_do_not_know_is_told(write) -> None:
    folder = write('[models.m]\npath = "m.py"\ndevice = "cuda:0"\nconvert = "compile"\n')
    (folder / "m.py").touch()
    found = mistakes(folder, "serve.toml")
    assert [(each["line"], each["setting"]) for each in found] == [(3, "models.m.device"), (4, "models.m.convert")]
    write('[models.m]\npath = "m.py"\n')
    # Said for all models, it is for others.
    assert penstock("validate", "serve.toml", cwd=folder, env={"PENSTOCK_CONVERT": "compile"}).returncode == 0


def test_one_port_for_both_is_told(write) -> None:
    folder = write("[server]\nport = 9000\ngrpc_port = 9000\n")
    (mistake,) = mistakes(folder, "serve.toml")
    assert (mistake["line"], mistake["setting"]) == (3, "server.grpc_port")
    write("[server]\nport = 0\ngrpc_port = 0\n")
    assert penstock("validate", "serve.toml", cwd=folder).returncode == 0


def test_a_certificate_without_its_key_is_told(write) -> None:
    found = mistakes(write('[server]\ntls_cert = "c.pem"\n'), "serve.toml")
    assert [each["text"][:41] for each in found] == ["tls_cert is given without tls_key: a cert"]
    found = mistakes(write('[server]\ntls_cert = "c.pem"\ntls_key = "k.pem"\n'), "serve.toml")
    assert [each["setting"] for each in found] == ["server.tls_cert", "server.tls_key"]


@pytest.mark.parametrize("text", ["[server\n", "a = 1\na = 2\n", '[server]\nport = """\n'])
def test_a_file_that_is_no_toml_is_told(text: str, write) -> None:
    (mistake,) = mistakes(write(text), "serve.toml")
    assert "not valid TOML: " in mistake["text"]
    assert (mistake["line"] is None) == ("end of document" in mistake["text"])


def test_variables_of_commands_builds_and_tests_are_no_settings() -> None:
    code = [
        path
        for folder in ("server/penstock", "sdk/python", "tests", "bench", "demo")
        for path in (ROOT / folder).rglob("*.py")
    ]
    read = re.compile(r"environ(?:\.get|\.pop|\.setdefault)?[\[(] *\"(PENSTOCK_[A-Z_]+)\"")
    names = {name for path in [*code, ROOT / "setup.py"] for name in read.findall(path.read_text())}
    assert names >= {"PENSTOCK_NATIVE_TESTS"}
    settings = {f"PENSTOCK_{name.upper()}" for name in settings_of(ServerConfig) | settings_of(ModelConfig)}
    others = names - settings | {"PENSTOCK_URL", "PENSTOCK_API_KEY", "PENSTOCK_KEY", "PENSTOCK_LANE"}
    assert load_config(environment=dict.fromkeys(others - {"PENSTOCK_CONFIG"}, "x")) == ServerConfig()
