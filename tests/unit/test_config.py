"""Settings: where they come from, who wins, and what is said about a wrong one."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from penstock.core.config import BackendName, LogFormat, LogLevel, ModelConfig, OnWorkerDeath, ServerConfig
from penstock.core.errors import ConfigError
from penstock.core.settings import CpuSet, Location, Size, Texts, Whole, format_size, settings_of
from penstock.core.sources import load_config

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> Path:
        path = tmp_path / "penstock.toml"
        path.write_text(text)
        return path

    return write_file


def error_of(**sources: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(**sources)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_need_no_source() -> None:
    assert load_config() == ServerConfig()
    assert load_config().host == "127.0.0.1"  # loopback unless told otherwise


def test_values_are_frozen() -> None:
    with pytest.raises(AttributeError):
        load_config().port = 1  # type: ignore[misc]


def test_later_sources_win(write) -> None:
    file = write('[server]\nport = 1\nio_threads = 2\ndecode_threads = 3\nlog_level = "error"\n')
    environment = {"PENSTOCK_PORT": "10", "PENSTOCK_IO_THREADS": "20", "HOME": "/root"}
    config = load_config(file=file, environment=environment, flags={"port": "100"})
    assert (config.port, config.io_threads, config.decode_threads) == (100, 20, 3)
    assert config.log_level is LogLevel.ERROR


def test_file_is_named_by_the_environment_unless_by_a_flag(write, tmp_path: Path) -> None:
    file = write("[server]\nport = 1\n")
    assert load_config(environment={"PENSTOCK_CONFIG": str(file)}).port == 1
    other = tmp_path / "other.toml"
    other.write_text("[server]\nport = 2\n")
    assert load_config(file=other, environment={"PENSTOCK_CONFIG": str(file)}).port == 2


def test_every_server_setting_can_be_said_everywhere(write) -> None:
    settings = settings_of(ServerConfig)
    assert set(settings) == {field.name for field in fields(ServerConfig)} - {"models", "model_defaults"}
    for name, setting in settings.items():
        default = 1 if setting.default is None and isinstance(setting.kind, Whole) else setting.default
        text = {Location: "/tmp/x", CpuSet: "0-1", Texts: "*"}.get(type(setting.kind)) or str(default)
        if name == "trace_endpoint":
            text = "http://localhost:4318"
        if name == "cache_redis":
            text = "redis://localhost"
        assert load_config(environment={f"PENSTOCK_{name.upper()}": text})
        assert load_config(flags={name: text})
        quoted = text.lower() if isinstance(default, int | float) else f'"{text}"'
        if isinstance(setting.kind, Texts):
            quoted = f"[{quoted}]"
        assert load_config(file=write(f"[server]\n{name} = {quoted}\n"))


def test_models_are_tables_by_name(write, tmp_path: Path) -> None:
    file = write(
        '[models.digits]\npath = "digits.onnx"\nmax_batch_size = 128\n'
        '[models.cats]\npath = "/models/cats.py"\nversion = "2024-01"\nbackend = "python"\non_worker_death = "rerun"\n'
    )
    digits, cats = load_config(file=file).models
    assert digits == ModelConfig(name="digits", path=tmp_path / "digits.onnx", max_batch_size=128)
    assert cats == ModelConfig(
        name="cats",
        path=Path("/models/cats.py"),
        version="2024-01",
        backend=BackendName.PYTHON,
        on_worker_death=OnWorkerDeath.RERUN,
    )


def test_models_are_entries_of_a_list(write, tmp_path: Path) -> None:
    file = write('[[models]]\nname = "m"\npath = "m1.onnx"\n[[models]]\nname = "m"\nversion = "2"\npath = "m2.onnx"\n')
    assert [(model.name, model.version, model.path) for model in load_config(file=file).models] == [
        ("m", "1", tmp_path / "m1.onnx"),
        ("m", "2", tmp_path / "m2.onnx"),
    ]


@pytest.mark.parametrize(
    ("argument", "name", "path"),
    [
        ("digits=models/digits.onnx", "digits", "models/digits.onnx"),
        ("models/digits.onnx", "digits", "models/digits.onnx"),
        ("digits.v2.onnx", "digits.v2", "digits.v2.onnx"),
        ("a=b=c.onnx", "a", "b=c.onnx"),
        ("runs/lr=0.1/digits.onnx", "digits", "runs/lr=0.1/digits.onnx"),
    ],
)
def test_models_are_arguments(argument: str, name: str, path: str) -> None:
    (model,) = load_config(models=[argument]).models
    assert (model.name, model.path) == (name, Path(path))


def test_settings_of_models_can_be_said_for_all(write) -> None:
    file = write('[models.a]\npath = "a.onnx"\nmax_batch_size = 2\ninstances = 3\n')
    a, b = load_config(
        file=file, environment={"PENSTOCK_MAX_BATCH_SIZE": "4"}, flags={"queue_bytes": "1MiB"}, models=["b=b.onnx"]
    ).models
    assert (a.max_batch_size, a.instances, a.queue_bytes) == (4, 3, 1 << 20)
    assert (b.max_batch_size, b.instances, b.queue_bytes) == (4, 1, 1 << 20)


@pytest.mark.parametrize(
    ("text", "size"),
    [("67108864", 64 << 20), ("64MiB", 64 << 20), ("64 MiB", 64 << 20), ("65536KiB", 64 << 20), ("4096B", 4096)],
)
def test_sizes_take_units(text: str, size: int, write) -> None:
    assert load_config(flags={"queue_bytes": text}, models=["m.onnx"]).models[0].queue_bytes == size
    file = write(f'[models.m]\npath = "m.onnx"\nqueue_bytes = "{text}"\n')
    assert load_config(file=file).models[0].queue_bytes == size


def test_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert load_config(models=["m=~/m.onnx"]).models[0].path == Path("/home/someone/m.onnx")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nprot = 1\n", r"\[server\] prot: unknown setting; did you mean 'port'\?"),
        ("[sever]\nport = 1\n", r"\[sever\]: unknown table; did you mean 'server'\?"),
        ("port = 1\n", r"port: this is a setting of the server; write it under \[server\]"),
        ("xyzzy = 1\n", r"\[xyzzy\]: unknown table; known are models, server"),
        (
            "[server]\nxyzzy = 1\n",
            r"\[server\] xyzzy: unknown setting; known are access_log, ",
        ),
        (
            "[server]\nmax_batch_size = 8\n",
            r"max_batch_size: this is a setting of a model; write it under \[models\.NAME",
        ),
        ("[server]\nport = 65536\n", r"\[server\] port = 65536: expected a whole number from 0 to 65535"),
        ('[server]\nport = "8000"\n', r"\[server\] port = '8000': expected a whole number"),
        ("[server]\nport = 80.5\n", r"\[server\] port = 80\.5: expected a whole number"),
        ("[server]\nport = true\n", r"\[server\] port = True: expected a whole number"),
        ("[server]\nhost = 1\n", r"\[server\] host = 1: expected a host name or an IP address"),
        ('[server]\nhost = ""\n', r"\[server\] host = '': expected a host name"),
        ('[server]\nlog_format = "xml"\n', r"log_format = 'xml': expected one of 'text', 'json'"),
        ("[server]\nunix_socket = 3\n", r"unix_socket = 3: expected a path"),
        (f'[server]\nunix_socket = "/{"x" * 107}"\n', r"expected a path of at most 107 bytes"),
        ('[server]\nbody_pool_bytes = "64MB"\n', r"body_pool_bytes = '64MB': expected a number of bytes from 1MiB to"),
        ("[server]\nbody_pool_bytes = 1\n", r"body_pool_bytes = 1: expected a number of bytes from 1MiB to 1TiB"),
        ("server = 1\n", r"server: expected a table, got 1"),
        ("models = 1\n", r"models: expected \[models\.NAME\] tables or \[\[models\]\] entries"),
        ("[models]\ndigits = 1\n", r"models\.digits: expected a table, got 1"),
        ('[models.a]\npath = "x"\nname = "b"\n', r"\[models\.a\] name: unknown setting"),
        ('[models."a b"]\npath = "x"\n', r"\[models\.a b\] name = 'a b': expected 1 to 64 letters"),
        ("[models.a]\n", r"\[models\.a\] has no path; every model needs one"),
        ('[[models]]\npath = "x"\n', r"\[models #1\] has no name; every model needs one"),
        ('[models.a]\npath = "x"\nversion = "latest"\n', r"version = 'latest': expected .* but not 'latest'"),
        ('[models.a]\npath = "x"\nversion = 1\n', r"version = 1: expected 1 to 64 letters"),
        ('[models.a]\npath = "x"\nmax_batch_size = 0\n', r"max_batch_size = 0: expected a whole number from 1 to 4096"),
        (
            '[models.a]\npath = "x"\nbatch_sizes = [8, 8]\n',
            r"batch_sizes = \[8, 8\]: expected 1 to 16 ascending whole numbers",
        ),
        (
            '[models.a]\npath = "x"\nbatch_sizes = []\n',
            r"batch_sizes = \[\]: expected 1 to 16 ascending whole numbers from 1 to",
        ),
        ('[models.a]\npath = "x"\nbatch_sizes = "8,16"\n', r"batch_sizes = '8,16': expected 1 to 16 ascending"),
        ('[models.a]\npath = "x"\nbatch_sizes = [8, "16"]\n', r"batch_sizes = \[8, '16'\]: expected 1 to 16 ascending"),
        ('[models.a]\npath = "x"\ncpus = 3\n', r"cpus = 3: expected numbers and ranges of CPUs, such as '0-3,6'"),
        ('[models.a]\npath = "x"\ncpus = "3-1"\n', r"cpus = '3-1': expected numbers and ranges"),
        ('[models.a]\npath = "x"\ncpus = ""\n', r"cpus = '': expected numbers and ranges"),
        ('[server]\nscheduling = "fair"\n', r"scheduling = 'fair': expected one of 'deadline', 'round-robin'"),
        ("[server\n", r"line 1: not valid TOML: .*\(column 8\)"),
    ],
)
def test_wrong_file_is_explained(text: str, message: str, write) -> None:
    file = write(text)
    told = error_of(file=file)
    assert told.startswith(f"{file}: ")
    assert re.search(message, told), told


def test_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    missing = tmp_path / "no.toml"
    assert error_of(file=missing) == f"cannot read the configuration file {missing}: No such file or directory"
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "not valid TOML" in error_of(file=binary)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PENSTOCK_PROT": "1"}, "environment: PENSTOCK_PROT: unknown setting; did you mean 'PENSTOCK_PORT'?"),
        (
            {"PENSTOCK_PORT": "http"},
            "environment: PENSTOCK_PORT = 'http': expected a whole number from 0 to 65535",
        ),
        ({"PENSTOCK_PATH": "x"}, "environment: PENSTOCK_PATH: unknown setting; did you mean"),
    ],
)
def test_wrong_environment_is_explained(environment: dict[str, str], message: str) -> None:
    assert error_of(environment=environment).startswith(message)


def test_what_kubernetes_puts_into_the_environment_is_passed_over() -> None:
    environment = {
        "PENSTOCK_SERVICE_HOST": "10.0.0.1",
        "PENSTOCK_SERVICE_PORT": "80",
        "PENSTOCK_SERVICE_PORT_HTTP": "80",
        "PENSTOCK_PORT": "tcp://10.0.0.1:80",
        "PENSTOCK_PORT_80_TCP": "tcp://10.0.0.1:80",
        "PENSTOCK_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load_config(environment=environment) == ServerConfig()


def test_empty_variable_says_nothing() -> None:
    assert load_config(environment={"PENSTOCK_PORT": "", "PENSTOCK_CONFIG": ""}) == ServerConfig()


@pytest.mark.parametrize("raw", ["-1", "4097", "8.0", "0x10", "eight", "", " "])
def test_wrong_flag_is_explained(raw: str) -> None:
    told = error_of(flags={"max_batch_size": raw})
    assert told == f"--max-batch-size = {raw!r}: expected a whole number from 1 to 4096 (rows)"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("digits=", "the path is missing; write NAME=PATH"),
        ("=digits.onnx", "'' cannot name a model"),
        ("my model=digits.onnx", "'my model' cannot name a model"),
        ("handwritten digits.onnx", "'handwritten digits' cannot name a model"),
        ("..=x.onnx", "'..' cannot name a model"),
        ("n" * 65 + "=x.onnx", "cannot name a model: expected 1 to 64 letters"),
    ],
)
def test_wrong_model_argument_is_explained(argument: str, message: str) -> None:
    assert message in error_of(models=[argument])


def test_duplicates_are_refused(write) -> None:
    file = write('[models.digits]\npath = "digits.onnx"\n')
    told = error_of(file=file, models=["digits=other.onnx"])
    assert told.startswith("model 'digits' version '1' is given twice, by ")
    assert str(file) in told
    assert "'digits=other.onnx'" in told
    assert len(load_config(file=file, models=["other=digits.onnx"]).models) == 2


def test_lists_are_read_from_files_and_text(write) -> None:
    file = write('[models.m]\npath = "m.onnx"\nbatch_sizes = [8, 16, 64]\ncpus = "0-3,6"\n')
    for config in (
        load_config(file=file),
        load_config(models=["m=m.onnx"], flags={"batch_sizes": "8, 16,64", "cpus": "6,0-2,3"}),
    ):
        assert config.models[0].batch_sizes == (8, 16, 64)
        assert config.models[0].cpus == (0, 1, 2, 3, 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "max_batch_size = 64\nbatch_sizes = [8, 16]",
            "model 'a': the largest of batch_sizes (16) must be max_batch_size (64): set max_batch_size = 16, "
            "or allow 64 rows",
        ),
        ("reproducible_batch_size = 65", "reproducible_batch_size (65) must be at most max_batch_size (64)"),
        (
            "batch_sizes = [8, 64]\nreproducible_batch_size = 1",
            "reproducible_batch_size (1) must be one of batch_sizes (8, 64)",
        ),
    ],
)
def test_sizes_that_contradict_each_other_are_refused(write, settings: str, message: str) -> None:
    assert message in error_of(file=write(f'[models.a]\npath = "a.onnx"\n{settings}\n'))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("max_batch_tokens = 64", "model 'a': max_batch_tokens is for rows that vary in length: set lengths"),
        ("lengths = [8, 32]\nmax_batch_tokens = 31", "max_batch_tokens (31) must be at least 32"),
        (
            "lengths = [8, 32]\nmax_batch_tokens = 64\nbatch_sizes = [4, 64]",
            "max_batch_tokens (64) must be at least 128: a batch of the longest rows that may run, 4 of 32, would be",
        ),
    ],
)
def test_tokens_that_contradict_the_lengths_are_refused(write, settings: str, message: str) -> None:
    assert message in error_of(file=write(f'[models.a]\npath = "a.onnx"\n{settings}\n'))
    assert load_config(file=write('[models.a]\npath = "a.onnx"\nlengths = [8, 32]\nmax_batch_tokens = 32\n'))


def test_the_largest_batch_follows_the_sizes(write) -> None:
    file = write('[models.a]\npath = "a.onnx"\nbatch_sizes = [8, 16, 32]\n[models.b]\npath = "b.onnx"\n')
    assert [model.max_batch_size for model in load_config(file=file).models] == [32, 64]
    assert load_config(models=["m=m.onnx"], flags={"batch_sizes": "4,8"}).models[0].max_batch_size == 8
    environment = {"PENSTOCK_BATCH_SIZES": "4,128"}
    assert [model.max_batch_size for model in load_config(file=file, environment=environment).models] == [128, 128]
    told = error_of(file=file, environment={"PENSTOCK_MAX_BATCH_SIZE": "64"})
    assert "model 'a': the largest of batch_sizes (32) must be max_batch_size (64)" in told


def test_reproducible_batches_have_an_allowed_size(write) -> None:
    file = write('[models.a]\npath = "a.onnx"\nbatch_sizes = [4, 64]\n[models.b]\npath = "b.onnx"\n')
    assert [model.reproducible_rows for model in load_config(file=file).models] == [4, 1]


@pytest.mark.parametrize("setting", ["instances = 2", 'cpus = "0"', "numa_node = 0"])
def test_a_group_agrees_on_its_processes(write, setting: str) -> None:
    text = f'[models.a]\npath = "a.onnx"\ngroup = "g"\n[models.b]\npath = "b.onnx"\ngroup = "g"\n{setting}\n'
    assert f"group 'g': models 'a' and 'b' differ in {setting.split()[0]}" in error_of(file=write(text))
    assert load_config(file=write(text.replace('"g"\n[', '"other"\n['))).models[1].group == "g"


def test_a_group_is_not_larger_than_a_worker_can_serve() -> None:
    models = [f"m{number}=m.onnx" for number in range(65)]
    assert "group 'g' has 65 models" in error_of(models=models, flags={"group": "g"})
    assert len(load_config(models=models[1:], flags={"group": "g"}).models) == 64


def test_reserve_is_part_of_the_whole() -> None:
    told = error_of(flags={"max_connections": "32"})
    assert "reserved_connections (32) must be less than max_connections (32)" in told


def test_document_lists_every_setting() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.+) \|$", (ROOT / "docs/configuration.md").read_text(), re.M)
    documented = {name: (default.strip("`"), takes) for name, default, takes, _ in rows}
    settings = settings_of(ServerConfig) | settings_of(ModelConfig)
    assert list(documented) == list(settings)
    for name, setting in settings.items():
        default, takes = documented[name]
        if isinstance(setting.kind, Size):
            assert default == format_size(int(str(setting.default)))
            assert takes == f"{format_size(setting.kind.minimum)} to {format_size(setting.kind.maximum)}"
        elif isinstance(setting.kind, Whole):
            assert default == ("none" if setting.default is None else str(setting.default))
            assert takes == f"{setting.kind.minimum} to {setting.kind.maximum} {setting.kind.unit}".strip()
        elif name in ("name", "path"):
            assert default == "needed"
        else:
            assert default == ("none" if setting.default in (None, ()) else str(setting.default).lower())


def test_documented_example_is_valid(write) -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    examples = re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S)
    assert examples
    for example in examples:
        assert load_config(file=write(example)).models
    assert format_size(1000) == "1000"
    assert LogFormat("json") is LogFormat.JSON


@pytest.mark.parametrize(
    "url",
    [
        "redis://penstock:hunter2/secret@localhost:6379/0",
        "redis://penstock:hunter2#secret@localhost/0",
        "redis://penstock:hunter2?secret@localhost/0",
        "redis://penstock:2222/secret@localhost:6379/0",
        "redis://localhost/0?passwort=secret",
        "redis://localhost/0?decode_responses=yes",
        "redis://localhost/0?db=secret",
        "redis://[secret/0",
        "unix://",
        "http://secret@localhost",
    ],
)
def test_a_url_of_redis_that_means_nothing_is_refused_unseen(url: str) -> None:
    with pytest.raises(ConfigError, match="cache_redis is no URL of a Redis") as caught:
        load_config(flags={"cache_redis": url})
    assert not any(part in str(caught.value) for part in ("hunter2", "secret", "2222", "passwort"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "rediss://penstock:hunter2%2Fsecret@[::1]:6380/3?ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=2&password=secret",
        "redis://:secret@localhost/",
    ],
)
def test_urls_of_redis_have_a_database_and_options(url: str) -> None:
    assert load_config(flags={"cache_redis": url}).cache_redis == url
