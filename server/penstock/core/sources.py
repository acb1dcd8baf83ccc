"""Where settings come from, in rising order: defaults, a TOML file, the environment, the command line.

An unknown key, a value of the wrong type and a value out of range are ConfigErrors that name the place, the key, what
was expected and the nearest name that exists. Only what Kubernetes puts into the environment, and what building and
testing take from it, is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.contradictions import refuse_contradictions
from penstock.core.errors import ConfigError
from penstock.core.gathering import MODEL_SETTINGS, Gathered, follow_sizes, parse, unknown
from penstock.core.origins import Mistake, Origin, Said, Source

__all__ = ["gather", "load_config", "registered_model"]

_CONFIG_VARIABLE = "PENSTOCK_CONFIG"

# What a registered model has from elsewhere, and where from.
_NOT_REGISTERED = {
    "name": "the model has its name from the registration",
    "path": "the registry knows where the artefact is",
    "version": "the registration has a version of its own",
    "backend": "the registration names the backend",
    "group": "a registered model cannot share workers, for it comes and goes while the others of its group are served",
}


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
    config = gather(file=file, environment=environment, flags=flags, models=models).config()
    refuse_contradictions(config)
    return config


def gather(
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    models: Sequence[str] = (),
) -> Gathered:
    """Read every source, as load_config() does, and return all that was said and all mistakes, but contradictions."""
    environment = environment or {}
    if file is None and environment.get(_CONFIG_VARIABLE):
        file = Path(environment[_CONFIG_VARIABLE]).expanduser()
    gathered = Gathered()
    if file is not None:
        gathered.take_file(file)
    gathered.take_models(models)
    gathered.take_environment(environment)
    gathered.take_flags(flags or {})
    gathered.settle()
    return gathered


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
    values: dict[str, object] = {"name": name, "version": version, "path": path}
    values["backend"] = _parsed("backend", backend, where)
    for key, raw in settings.items():
        if key in _NOT_REGISTERED:
            raise ConfigError(f"{where}: {key}: leave it out of the settings: {_NOT_REGISTERED[key]}")
        if key not in MODEL_SETTINGS:
            known = [known for known in MODEL_SETTINGS if known not in _NOT_REGISTERED]
            raise ConfigError(unknown(f"{where}: {key}", key, known, "setting"))
        values[key] = _parsed(key, raw, where)
    values |= {key: value for key, value in (defaults or {}).items() if key not in _NOT_REGISTERED}
    origin = Origin(Source.DEFAULT)
    said = {key: Said(value, origin) for key, value in values.items()}
    follow_sizes(said)
    model = ModelConfig(**{key: each.value for key, each in said.items()})
    refuse_contradictions(ServerConfig(models=(model,)))
    return model


def _parsed(key: str, raw: object, where: str) -> object:
    value = parse(MODEL_SETTINGS[key], raw, f"{where}: {key}", text=False)
    if isinstance(value, Mistake):
        raise ConfigError(value.text)
    return value
