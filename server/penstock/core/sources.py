"""Where settings come from, in rising order: defaults, a TOML file, the environment, the command line.

An unknown key, a value of the wrong type and a value out of range are ConfigErrors that name the place, the key, what
was expected and the nearest name that exists. Only what Kubernetes puts into the environment is passed over.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.contradictions import refuse_contradictions
from penstock.core.errors import ConfigError
from penstock.core.settings import Location, Setting, settings_of

__all__ = ["load_config", "registered_model"]

_PREFIX = "PENSTOCK_"
_CONFIG_VARIABLE = "PENSTOCK_CONFIG"
# Not settings of the server: where the file is, whom to tell when it is ready, which lane the kernels are to take, and
# where and as whom the commands ask a server.
_OTHER_VARIABLES = (_CONFIG_VARIABLE, "PENSTOCK_READY_FD", "PENSTOCK_LANE", "PENSTOCK_URL", "PENSTOCK_KEY")
# A Kubernetes service named "penstock" makes these up for every pod beside it (enableServiceLinks).
_SERVICE_LINK = re.compile(r"PENSTOCK_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_\w+)")
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://\S+")

_SERVER_SETTINGS = settings_of(ServerConfig)
_MODEL_SETTINGS = settings_of(ModelConfig)
# What the environment and the command line may say once for all models.
_SHARED_SETTINGS = {name: _MODEL_SETTINGS[name] for name in _MODEL_SETTINGS if name not in ("name", "path", "version")}

# What a registered model has from elsewhere, and where from.
_NOT_REGISTERED = {
    "name": "the model has its name from the registration",
    "path": "the registry knows where the artefact is",
    "version": "the registration has a version of its own",
    "backend": "the registration names the backend",
    "group": "a registered model cannot share workers, for it comes and goes while the others of its group are served",
}

# Values by setting; a later source overwrites what an earlier one said.
_Values = dict[str, Any]


@dataclass(slots=True)
class _ModelEntry:
    """The settings of one model so far, and where it was named."""

    where: str
    values: _Values


def load_config(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    models: Sequence[str] = (),
) -> ServerConfig:
    """Read every source once and return the frozen settings.

    `flags` holds settings by name as they were typed; `models` holds 'NAME=PATH' or bare paths, whose stem is the name.
    `file` may also be named by PENSTOCK_CONFIG in `environment`. Raises ConfigError.
    """
    environment = environment or {}
    if file is None and environment.get(_CONFIG_VARIABLE):
        file = Path(environment[_CONFIG_VARIABLE]).expanduser()
    server: _Values = {}
    entries: list[_ModelEntry] = []
    if file is not None:
        server, entries = _read_file(file)
    entries += [_model_argument(argument) for argument in models]

    shared: _Values = {}
    for values in (_read_environment(environment), _read_flags(flags or {})):
        server |= {name: value for name, value in values.items() if name in _SERVER_SETTINGS}
        shared |= {name: value for name, value in values.items() if name in _SHARED_SETTINGS}
    for entry in entries:
        entry.values |= shared
        _follow_sizes(entry.values)
    _refuse_duplicates(entries)
    config = ServerConfig(
        models=tuple(ModelConfig(**entry.values) for entry in entries), model_defaults=shared, **server
    )
    refuse_contradictions(config)
    return config


def registered_model(
    name: str,
    version: str,
    path: Path,
    backend: str,
    settings: Mapping[str, object],
    defaults: Mapping[str, object] | None = None,
) -> ModelConfig:
    """Return the configuration of a registered version from the settings it was registered with, as TOML has them.

    `defaults` are ServerConfig.model_defaults, which win as they do over a file. Raises ConfigError, as the settings of
    a file do.
    """
    where = f"model {name!r}"
    values: _Values = {"name": name, "version": version, "path": path}
    values["backend"] = _parse(_MODEL_SETTINGS["backend"], backend, f"{where}: backend", text=False)
    for key, raw in settings.items():
        if key in _NOT_REGISTERED:
            raise ConfigError(f"{where}: {key}: leave it out of the settings: {_NOT_REGISTERED[key]}")
        if key not in _MODEL_SETTINGS:
            known = [known for known in _MODEL_SETTINGS if known not in _NOT_REGISTERED]
            raise _unknown(f"{where}: {key}", key, known, "setting")
        values[key] = _parse(_MODEL_SETTINGS[key], raw, f"{where}: {key}", text=False)
    values |= {key: value for key, value in (defaults or {}).items() if key not in _NOT_REGISTERED}
    _follow_sizes(values)
    model = ModelConfig(**values)
    refuse_contradictions(ServerConfig(models=(model,)))
    return model


def _read_file(file: Path) -> tuple[_Values, list[_ModelEntry]]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    for key in document:
        if key in _SERVER_SETTINGS:
            raise ConfigError(f"{file}: {key}: this is a setting of the server; write it under [server]")
        if key not in ("server", "models"):
            raise _unknown(f"{file}: [{key}]", key, ("server", "models"), "table")
    server = _read_table(file, "server", document.get("server", {}), _SERVER_SETTINGS)
    return server, list(_read_models(file, document.get("models", {})))


def _read_models(file: Path, tables: object) -> Iterable[_ModelEntry]:
    """Read [models.NAME] tables or [[models]] entries."""
    named_settings = {name: setting for name, setting in _MODEL_SETTINGS.items() if name != "name"}
    if isinstance(tables, dict):
        for name, table in tables.items():
            where = f"models.{name}"
            named = {"name": _parse(_MODEL_SETTINGS["name"], name, f"{file}: [{where}] name", text=False)}
            yield _model_entry(file, where, named | _read_table(file, where, table, named_settings))
    elif isinstance(tables, list):
        for number, table in enumerate(tables, 1):
            where = f"models #{number}"
            yield _model_entry(file, where, _read_table(file, where, table, _MODEL_SETTINGS))
    else:
        raise ConfigError(f"{file}: models: expected [models.NAME] tables or [[models]] entries")


def _model_entry(file: Path, where: str, values: _Values) -> _ModelEntry:
    for required in ("name", "path"):
        if required not in values:
            raise ConfigError(f"{file}: [{where}] has no {required}; every model needs one")
    return _ModelEntry(f"{file} [{where}]", values)


def _read_table(file: Path, table: str, content: object, settings: Mapping[str, Setting]) -> _Values:
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: {table}: expected a table, got {content!r}")
    values: _Values = {}
    for key, raw in content.items():
        where = f"{file}: [{table}] {key}"
        if key not in settings:
            if table == "server" and key in _SHARED_SETTINGS:
                raise ConfigError(f"{where}: this is a setting of a model; write it under [models.NAME]")
            raise _unknown(where, key, settings, "setting")
        value = _parse(settings[key], raw, where, text=False)
        # A file means the same wherever the server is started from.
        if isinstance(settings[key].kind, Location) and isinstance(value, Path):
            value = file.parent / value
        values[key] = value
    return values


def _read_environment(environment: Mapping[str, str]) -> _Values:
    values: _Values = {}
    known = _SERVER_SETTINGS | _SHARED_SETTINGS
    names = [_PREFIX + name.upper() for name in known] + [*_OTHER_VARIABLES]
    for variable, raw in environment.items():
        if not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES or _is_service_link(variable, raw):
            continue
        if variable not in names:
            raise _unknown(f"environment: {variable}", variable, names, "setting")
        if raw:
            setting = known[variable.removeprefix(_PREFIX).lower()]
            values[setting.name] = _parse(setting, raw, f"environment: {variable}", text=True)
    return values


def _is_service_link(variable: str, raw: str) -> bool:
    if variable == "PENSTOCK_PORT":
        return _SERVICE_PORT.fullmatch(raw) is not None
    return _SERVICE_LINK.fullmatch(variable) is not None


def _read_flags(flags: Mapping[str, str]) -> _Values:
    known = _SERVER_SETTINGS | _SHARED_SETTINGS
    return {name: _parse(known[name], raw, known[name].flag, text=True) for name, raw in flags.items()}


def _model_argument(argument: str) -> _ModelEntry:
    """Read NAME=PATH, or a bare path whose stem is the name."""
    name, equals, path = argument.partition("=")
    # 'runs/lr=0.1/digits.onnx' is a path: no name holds a slash.
    if not equals or "/" in name:
        name, path = Path(argument).stem, argument
    where = f"model {argument!r}"
    if not path:
        raise ConfigError(f"{where}: the path is missing; write NAME=PATH, such as digits=digits.onnx")
    try:
        parsed = _MODEL_SETTINGS["name"].kind.parse(name, text=True)
    except ValueError:
        expected = _MODEL_SETTINGS["name"].kind.expected
        raise ConfigError(f"{where}: {name!r} cannot name a model: expected {expected}; write NAME=PATH") from None
    return _ModelEntry(
        f"the argument {argument!r}",
        {"name": parsed, "path": _parse(_MODEL_SETTINGS["path"], path, where, text=True)},
    )


def _parse(setting: Setting, raw: object, where: str, *, text: bool) -> object:
    try:
        return setting.kind.parse(raw, text=text)
    except ValueError:
        raise ConfigError(f"{where} = {raw!r}: expected {setting.kind.expected}") from None


def _follow_sizes(values: _Values) -> None:
    """Let the largest of `batch_sizes` be max_batch_size, unless a source says that, too."""
    if "batch_sizes" in values:
        values.setdefault("max_batch_size", values["batch_sizes"][-1])


def _refuse_duplicates(entries: Sequence[_ModelEntry]) -> None:
    seen: dict[tuple[str, str], str] = {}
    for entry in entries:
        name, version = (
            entry.values["name"],
            entry.values.get("version", ModelConfig.__dataclass_fields__["version"].default),
        )
        if (name, version) in seen:
            raise ConfigError(
                f"model {name!r} version {version!r} is given twice, by {seen[name, version]} and by {entry.where}; "
                "give one of them another name or version"
            )
        seen[name, version] = entry.where


def _unknown(where: str, key: str, known: Iterable[str], what: str) -> ConfigError:
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    return ConfigError(f"{where}: unknown {what}; {hint}")
