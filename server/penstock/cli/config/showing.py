"""Every setting with its value and where that comes from, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from penstock.cli.tables import table
from penstock.core.config import ServerConfig
from penstock.core.cpus import format_cpus
from penstock.core.gathering import MODEL_SETTINGS, SERVER_SETTINGS, SHARED_SETTINGS, Gathered
from penstock.core.origins import Origin, Said, Source
from penstock.core.secrets import without_secrets
from penstock.core.settings import CpuSet, Setting, Size, format_size
from penstock.registry.places import data_folder, registry_places

__all__ = ["shown_as_json", "shown_as_text"]

_DEFAULT = Origin(Source.DEFAULT)
_OTEL = {
    "trace_endpoint": ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    "trace_service_name": ("OTEL_SERVICE_NAME",),
}


@dataclass(frozen=True, slots=True)
class _Line:
    """One setting, its value as it counts, and its origin."""

    setting: Setting
    value: object
    origin: Origin

    def as_text(self) -> tuple[str, str, str]:
        """Return its name, value and place for people."""
        return self.setting.name, _text(self.setting, self.value), str(self.origin)

    def as_json(self) -> dict[str, object]:
        """Return its value and place."""
        document: dict[str, object] = {"value": _plain(self.setting, self.value), "from": self.origin.source.value}
        if self.origin.file is not None:
            return {**document, "file": str(self.origin.file), "line": self.origin.line}
        return document | ({"name": self.origin.name} if self.origin.name else {})


def shown_as_text(gathered: Gathered, config: ServerConfig, environment: Mapping[str, str], *, changed: bool) -> str:
    """Return tables: the server's, what counts for every model, and one for each model."""
    parts = []
    for heading, lines in _tables(gathered, config, environment):
        rows = [line.as_text() for line in lines if not changed or line.origin.source is not Source.DEFAULT]
        if rows:
            parts.append(f"{heading}\n{table(('SETTING', 'VALUE', 'FROM'), rows)}")
    return "\n\n".join(parts) if parts else "everything is as by default"


def shown_as_json(gathered: Gathered, config: ServerConfig, environment: Mapping[str, str], *, changed: bool) -> str:
    """Return one JSON document."""
    named = [
        {line.setting.name: line.as_json() for line in lines if not changed or line.origin.source is not Source.DEFAULT}
        for _, lines in _tables(gathered, config, environment)
    ]
    models = [
        {"name": model.name, "version": model.version, "settings": settings}
        for model, settings in zip(config.models, named[2:], strict=True)
    ]
    document = {"server": named[0], "every_model": named[1], "models": models}
    return json.dumps(document, indent=2, ensure_ascii=False)


def _tables(
    gathered: Gathered, config: ServerConfig, environment: Mapping[str, str]
) -> Iterator[tuple[str, list[_Line]]]:
    """Yield the server's settings, then what is said for every model, then each model's."""
    effective = _effective(config, environment)
    yield "server", list(_lines(SERVER_SETTINGS, effective | gathered.server))
    said = [_Line(SHARED_SETTINGS[name], said.value, said.origin) for name, said in gathered.shared.items()]
    yield "every model, registered ones too", said
    for model, settings in zip(config.models, gathered.models, strict=True):
        yield f"model {model.name}, version {model.version}", list(_lines(MODEL_SETTINGS, settings.values))


def _lines(settings: Mapping[str, Setting], values: Mapping[str, Said]) -> Iterator[_Line]:
    for name, setting in settings.items():
        said = values.get(name, Said(setting.default, _DEFAULT))
        yield _Line(setting, said.value, said.origin)


def _effective(config: ServerConfig, environment: Mapping[str, str]) -> dict[str, Said]:
    """Return what counts where nothing is said and the default is to look elsewhere."""
    store, artefacts, _ = registry_places(config)
    found = {
        "data_dir": Said(data_folder(config), _DEFAULT),
        "store": Said(store, _DEFAULT),
        "artefacts": Said(artefacts, _DEFAULT),
    }
    for name, variables in _OTEL.items():
        for variable in variables:
            if environment.get(variable):
                found.setdefault(name, Said(environment[variable], Origin(Source.ENVIRONMENT, variable)))
    return found


def _plain(setting: Setting, value: object) -> object:
    if isinstance(setting.kind, CpuSet):
        assert isinstance(value, tuple)
        return format_cpus(value) or None
    if isinstance(value, tuple):
        return [_plain(setting, each) for each in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, str | Path):
        return without_secrets(str(value))
    return value


def _text(setting: Setting, value: object) -> str:
    if isinstance(setting.kind, Size) and isinstance(value, int):
        return format_size(value)
    plain = _plain(setting, value)
    if plain is None or plain == []:
        return "-"
    if isinstance(plain, bool):
        return "true" if plain else "false"
    return ", ".join(map(str, plain)) if isinstance(plain, list) else str(plain)
