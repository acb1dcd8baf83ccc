"""Reads every source of settings to its end, so that all mistakes are known and where each value comes from."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.errors import ConfigError
from penstock.core.origins import Mistake, Origin, Said, Source, WrittenLines
from penstock.core.settings import Location, Setting, settings_of
from penstock.core.toml_lines import KeyPath

__all__ = [
    "MODEL_SETTINGS",
    "SERVER_SETTINGS",
    "SHARED_SETTINGS",
    "Gathered",
    "GatheredModel",
    "follow_sizes",
    "parse",
    "unknown",
]

_PREFIX = "PENSTOCK_"
# Not settings of the server: where the file is, whom to tell when it is ready, which lane the kernels are to take, and
# where and as whom the commands ask a server.
_OTHER_VARIABLES = (
    *("PENSTOCK_CONFIG", "PENSTOCK_READY_FD", "PENSTOCK_LANE"),
    *("PENSTOCK_URL", "PENSTOCK_KEY", "PENSTOCK_API_KEY"),
)
# What building and testing Penstock takes from the environment: a server beside it has nothing to do with that.
_BUILD_VARIABLES = ("PENSTOCK_NATIVE", "PENSTOCK_NATIVE_TESTS", "PENSTOCK_JSON_SCHEMA_SUITE")
# A Kubernetes service named "penstock" makes these up for every pod beside it (enableServiceLinks).
_SERVICE_LINK = re.compile(r"PENSTOCK_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_\w+)")
_AT_LINE = re.compile(r"(?<=\()at line (\d+), ")
_SERVICE_PORT = re.compile(r"(tcp|udp|sctp)://\S+")

SERVER_SETTINGS = settings_of(ServerConfig)
MODEL_SETTINGS = settings_of(ModelConfig)
# What the environment and the command line may say once for all models.
SHARED_SETTINGS = {name: MODEL_SETTINGS[name] for name in MODEL_SETTINGS if name not in ("name", "path", "version")}

# Values by setting; a later source overwrites what an earlier one said.
_Values = dict[str, Said]


@dataclass(slots=True)
class GatheredModel:
    """The settings of one model so far, and where it was named: for people, and as a place."""

    where: str
    origin: Origin
    values: _Values

    @property
    def label(self) -> tuple[str, str]:
        """Its name and version, as far as they are said."""
        name, version = self.values.get("name"), self.values.get("version")
        default = str(MODEL_SETTINGS["version"].default)
        return "" if name is None else str(name.value), default if version is None else str(version.value)


@dataclass(slots=True)
class Gathered:
    """What all sources say. Take them in rising order, then settle()."""

    server: _Values = field(default_factory=dict)
    shared: _Values = field(default_factory=dict)
    models: list[GatheredModel] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    def config(self) -> ServerConfig:
        """Return the settings; ConfigError for the first mistake."""
        if self.mistakes:
            raise ConfigError(str(self.mistakes[0]))
        return ServerConfig(
            models=tuple(ModelConfig(**_plain(model.values)) for model in self.models),
            model_defaults=_plain(self.shared),
            **_plain(self.server),
        )

    def take_file(self, file: Path) -> None:
        """Read a TOML file."""
        try:
            text = file.read_text(encoding="utf-8")
        except OSError as error:
            self.mistakes.append(Mistake(f"cannot read the configuration file {file}: {error.strerror}"))
            return
        except UnicodeDecodeError as error:
            self.mistakes.append(Mistake(f"not valid TOML: {error}", file=file))
            return
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            # It ends in "(at line 3, column 8)" or "(at end of document)".
            place = _AT_LINE.search(str(error))
            said = _AT_LINE.sub("", str(error))
            line = None if place is None else int(place[1])
            self.mistakes.append(Mistake(f"not valid TOML: {said}", file=file, line=line))
            return
        self._take_document(_Document(WrittenLines(file, text), self.mistakes), document)

    def take_models(self, arguments: Iterable[str]) -> None:
        """Read 'NAME=PATH' and bare paths, whose stem is the name."""
        for argument in arguments:
            try:
                self.models.append(_model_argument(argument))
            except ConfigError as error:
                self.mistakes.append(Mistake(str(error), "models"))

    def take_environment(self, environment: Mapping[str, str]) -> None:
        """Read PENSTOCK_... variables."""
        known = SERVER_SETTINGS | SHARED_SETTINGS
        names = [_PREFIX + name.upper() for name in known] + [*_OTHER_VARIABLES]
        for variable, raw in environment.items():
            if not variable.startswith(_PREFIX) or _is_other(variable, raw):
                continue
            where = f"environment: {variable}"
            if variable not in names:
                self.mistakes.append(Mistake(unknown(where, variable, names, "setting"), variable))
            elif raw:
                setting = known[variable.removeprefix(_PREFIX).lower()]
                self._say(setting, raw, where, Origin(Source.ENVIRONMENT, variable))

    def take_flags(self, flags: Mapping[str, str]) -> None:
        """Read settings by name, as they were typed."""
        known = SERVER_SETTINGS | SHARED_SETTINGS
        for name, raw in flags.items():
            self._say(known[name], raw, known[name].flag, Origin(Source.FLAG, known[name].flag))

    def settle(self) -> None:
        """Bring together what was said: for all models, of sizes that follow from others, and what is said twice."""
        for model in self.models:
            model.values |= self.shared
            follow_sizes(model.values)
        self._find_duplicates()

    def _say(self, setting: Setting, raw: str, where: str, origin: Origin) -> None:
        value = parse(setting, raw, where, text=True)
        if isinstance(value, Mistake):
            self.mistakes.append(value)
        elif setting.name in SERVER_SETTINGS:
            self.server[setting.name] = Said(value, origin)
        else:
            self.shared[setting.name] = Said(value, origin)

    def _take_document(self, document: _Document, tables: Mapping[str, object]) -> None:
        for key in tables:
            if key in SERVER_SETTINGS:
                document.note(f"{key}: this is a setting of the server; write it under [server]", (key,))
            elif key not in ("server", "models"):
                document.note(unknown(f"[{key}]", key, ("server", "models"), "table"), (key,))
        self.server |= document.table("server", ("server",), tables.get("server", {}), SERVER_SETTINGS)
        self.models += document.models(tables.get("models", {}))

    def _find_duplicates(self) -> None:
        seen: dict[tuple[str, str], GatheredModel] = {}
        for model in self.models:
            name, version = model.label
            if not name:
                continue  # which is a mistake of its own
            if (name, version) in seen:
                text = (
                    f"model {name!r} version {version!r} is given twice, by {seen[name, version].where} and by "
                    f"{model.where}; give one of them another name or version"
                )
                self.mistakes.append(Mistake(text, f"models.{name}"))
            seen.setdefault((name, version), model)


@dataclass(frozen=True, slots=True)
class _Document:
    """Reads the tables of one file."""

    written: WrittenLines
    mistakes: list[Mistake]

    def note(self, text: str, key: KeyPath) -> None:
        """Keep a mistake."""
        setting = ".".join(map(str, key))
        self.mistakes.append(Mistake(text, setting, self.written.file, self.written.line(key)))

    def table(self, table: str, at: KeyPath, content: object, settings: Mapping[str, Setting]) -> _Values:
        """Read a table whose name in sentences is `table`."""
        if not isinstance(content, dict):
            self.note(f"{table}: expected a table, got {content!r}", at)
            return {}
        values: _Values = {}
        for key, raw in content.items():
            where, path = f"[{table}] {key}", (*at, key)
            if key not in settings:
                if table == "server" and key in SHARED_SETTINGS:
                    self.note(f"{where}: this is a setting of a model; write it under [models.NAME]", path)
                else:
                    self.note(unknown(where, key, settings, "setting"), path)
                continue
            value = parse(settings[key], raw, where, text=False)
            if isinstance(value, Mistake):
                self.note(value.text, path)
                continue
            # A file means the same wherever the server is started from.
            if isinstance(settings[key].kind, Location) and isinstance(value, Path):
                value = self.written.file.parent / value
            values[key] = Said(value, self._origin(path))
        return values

    def models(self, tables: object) -> list[GatheredModel]:
        """Read [models.NAME] tables or [[models]] entries."""
        named_settings = {name: setting for name, setting in MODEL_SETTINGS.items() if name != "name"}
        found: list[GatheredModel] = []
        if isinstance(tables, dict):
            for name, content in tables.items():
                where, at = f"models.{name}", ("models", name)
                parsed = parse(MODEL_SETTINGS["name"], name, f"[{where}] name", text=False)
                if isinstance(parsed, Mistake):
                    self.note(parsed.text, at)
                values = self.table(where, at, content, named_settings)
                found += self._model(where, at, content, {"name": Said(name, self._origin(at))} | values)
        elif isinstance(tables, list):
            for number, content in enumerate(tables):
                where, at = f"models #{number + 1}", ("models", number)
                found += self._model(where, at, content, self.table(where, at, content, MODEL_SETTINGS))
        else:
            self.note("models: expected [models.NAME] tables or [[models]] entries", ("models",))
        return found

    def _model(self, where: str, at: KeyPath, content: object, values: _Values) -> Iterable[GatheredModel]:
        if not isinstance(content, dict):
            return
        for required in ("name", "path"):
            # One that is wrong has been noted, and is not missing.
            if required not in values and required not in content:
                self.note(f"[{where}] has no {required}; every model needs one", at)
        yield GatheredModel(f"{self.written.file} [{where}]", self._origin(at), values)

    def _origin(self, key: KeyPath) -> Origin:
        return Origin(Source.FILE, "", self.written, key)


def parse(setting: Setting, raw: object, where: str, *, text: bool) -> object:
    """Return a setting's value, or the Mistake that it is."""
    try:
        return setting.kind.parse(raw, text=text)
    except ValueError:
        return Mistake(f"{where} = {raw!r}: expected {setting.kind.expected}", setting.name)


def follow_sizes(values: _Values) -> None:
    """Let the largest of `batch_sizes` be max_batch_size, unless a source says that, too."""
    if "batch_sizes" in values:
        sizes = values["batch_sizes"]
        values.setdefault("max_batch_size", Said(sizes.value[-1], sizes.origin))


def unknown(where: str, key: str, known: Iterable[str], what: str) -> str:
    """Say that there is no such name, and which one was probably meant."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
    return f"{where}: unknown {what}; {hint}"


def _plain(values: _Values) -> dict[str, Any]:
    return {name: said.value for name, said in values.items()}


def _is_other(variable: str, raw: str) -> bool:
    if variable in _OTHER_VARIABLES or variable in _BUILD_VARIABLES:
        return True
    if variable == "PENSTOCK_PORT":
        return _SERVICE_PORT.fullmatch(raw) is not None
    return _SERVICE_LINK.fullmatch(variable) is not None


def _model_argument(argument: str) -> GatheredModel:
    """Read NAME=PATH, or a bare path whose stem is the name."""
    name, equals, path = argument.partition("=")
    # 'runs/lr=0.1/digits.onnx' is a path: no name holds a slash.
    if not equals or "/" in name:
        name, path = Path(argument).stem, argument
    where = f"model {argument!r}"
    if not path:
        raise ConfigError(f"{where}: the path is missing; write NAME=PATH, such as digits=digits.onnx")
    try:
        parsed = MODEL_SETTINGS["name"].kind.parse(name, text=True)
    except ValueError:
        expected = MODEL_SETTINGS["name"].kind.expected
        raise ConfigError(f"{where}: {name!r} cannot name a model: expected {expected}; write NAME=PATH") from None
    place = parse(MODEL_SETTINGS["path"], path, where, text=True)
    if isinstance(place, Mistake):
        raise ConfigError(place.text)
    origin = Origin(Source.ARGUMENT, argument)
    values = {"name": Said(parsed, origin), "path": Said(place, origin)}
    return GatheredModel(f"the argument {argument!r}", origin, values)
