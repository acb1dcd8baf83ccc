"""Every exception that Penstock raises on purpose.

PenstockError
├── ConfigError          a setting is unknown, of the wrong type, out of range, or contradicts another
├── StartError           the server cannot start
│   ├── ListenError      the public address cannot be used
│   │   └── PortInUseError
│   └── ModelLoadError   a model cannot be read, loaded or warmed up
│       └── LoadStalledError   it was not ready in time, or no process could be started for it
├── LoadError            a load could not be generated, or its figures mean nothing
│   └── UnreachableError nothing answers where the load was to go
├── WorkerError          a worker process broke the protocol or could not be started, or nobody watches them any more
└── RequestError         a request is refused with an entry of the problem catalogue
    └── RegistryUnavailableError   the registry's database or artefacts cannot be read or written
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ListenError",
    "LoadError",
    "LoadStalledError",
    "ModelLoadError",
    "PenstockError",
    "PortInUseError",
    "RegistryUnavailableError",
    "RequestError",
    "StartError",
    "UnreachableError",
    "WorkerError",
]


class PenstockError(Exception):
    """Root of the tree. Its text is a sentence for the person at the terminal: what happened and what to do."""

    exit_code = 1


class ConfigError(PenstockError):
    """A setting is unknown, of the wrong type, out of range, or contradicts another."""

    exit_code = 2


class StartError(PenstockError):
    """The server cannot start."""


class ListenError(StartError):
    """The public address cannot be used."""


class PortInUseError(ListenError):
    """Another process listens on the port."""


class ModelLoadError(StartError):
    """A model cannot be read, loaded or warmed up."""


class LoadStalledError(ModelLoadError):
    """A model was not ready in time, or no process could be started for it: on a less busy machine it may be."""


class LoadError(PenstockError):
    """A load could not be generated, or its figures mean nothing."""


class UnreachableError(LoadError):
    """Nothing answers where the load was to go."""

    exit_code = 3


class WorkerError(PenstockError):
    """A worker process broke the protocol or could not be started, or nobody watches them any more."""


class RequestError(PenstockError):
    """A request is refused. `code` is an entry of the problem catalogue; `detail` names no path, stack or secret."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class RegistryUnavailableError(RequestError):
    """The registry's database or artefacts cannot be read or written.

    Its text is for the operator and says where; a client gets a `detail` that names no place.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            "registry_unavailable",
            "the registry of models cannot be read or written at the moment; the server's log says why. Try again",
        )
        self.args = (reason,)
