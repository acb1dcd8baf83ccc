"""What can be found wrong with right settings on this machine before anything is bound, started or loaded."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from penstock.core.config import BackendName, Convert, ModelConfig, ServerConfig
from penstock.core.contradictions import Contradiction
from penstock.core.devices import CPU
from penstock.core.errors import ConfigError, ModelLoadError
from penstock.serve.placement import check_placement

__all__ = ["check_readable", "preflight"]


def preflight(config: ServerConfig) -> Iterator[Contradiction]:
    """Find where settings and this machine contradict each other, all of it."""
    # Not at the top: it brings NumPy, which the main process of a server does without.
    from penstock.worker.backends import choose_backend

    yield from _placement("io_cpus", replace(config, models=()), None)
    yield from _tls(config)
    if config.unix_socket is not None and not config.unix_socket.parent.is_dir():
        yield Contradiction(
            "unix_socket", f"unix_socket = {str(config.unix_socket)!r}: there is no folder {config.unix_socket.parent}"
        )
    yield from _access_log(config)
    yield from _data_dir(config)
    for model in config.models:
        yield from _placement("cpus" if model.cpus else "numa_node", ServerConfig(models=(model,)), model)
        try:
            check_readable(model)
            backend = choose_backend(model.path, model.backend)
            yield from _of_python(model, config) if backend == BackendName.PYTHON else ()
        except ModelLoadError as error:
            text = str(error)
            where = f"model {model.name!r}"
            yield Contradiction("path", text if text.startswith(where) else f"{where}: {text}", model)


def check_readable(model: ModelConfig) -> None:
    """Find a mistyped path now and not in a worker. The backend finds what is wrong inside a file."""
    advice = "check the path; models are given as NAME=PATH"
    if not model.path.exists():
        raise ModelLoadError(f"model {model.name!r}: there is no {model.path}; {advice}")
    if not os.access(model.path, os.R_OK):
        raise ModelLoadError(f"model {model.name!r}: no right to read {model.path}; give it to this user")


def _placement(setting: str, config: ServerConfig, model: ModelConfig | None) -> Iterator[Contradiction]:
    try:
        check_placement(config)
    except ConfigError as error:
        yield Contradiction(setting, str(error), model)


def _access_log(config: ServerConfig) -> Iterator[Contradiction]:
    if config.access_log in ("off", "-"):
        return
    file = Path(config.access_log).expanduser()
    if not file.parent.is_dir():
        yield Contradiction("access_log", f"access_log = {config.access_log!r}: there is no folder {file.parent}")
    elif file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK):
        yield Contradiction("access_log", f"access_log = {config.access_log!r}: no file that this user may write")


def _data_dir(config: ServerConfig) -> Iterator[Contradiction]:
    folder = config.data_dir
    if folder is None:
        return
    try:
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    except OSError as error:
        yield Contradiction("data_dir", f"data_dir = {str(folder)!r}: {error.strerror}")
        return
    if not there.is_dir():
        yield Contradiction("data_dir", f"data_dir = {str(folder)!r}: {there} is no folder")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Contradiction("data_dir", f"data_dir = {str(folder)!r}: this user may not write {there}")


def _of_python(model: ModelConfig, config: ServerConfig) -> Iterator[Contradiction]:
    """Find what a plain Python model refuses when it is loaded, or takes no notice of."""
    where = f"model {model.name!r}"
    if model.device != CPU:
        yield Contradiction(
            "device",
            f"{where}: device = {model.device!r} is not for plain Python models, which may use a GPU by themselves: "
            "leave it out",
            model,
        )
    # What is said once for all models is for those that know it.
    if model.convert != Convert.NONE and "convert" not in config.model_defaults:
        yield Contradiction(
            "convert", f"{where}: convert = '{model.convert}' is not for plain Python models: leave it out", model
        )


def _tls(config: ServerConfig) -> Iterator[Contradiction]:
    certificate, key = config.tls_cert, config.tls_key
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        given, missing = ("tls_key", "tls_cert") if certificate is None else ("tls_cert", "tls_key")
        text = f"{given} is given without {missing}: a certificate needs its key, and a key its certificate"
        yield Contradiction(given, text)
        return
    missing_file = False
    for setting, file in (("tls_cert", certificate), ("tls_key", key)):
        if not os.access(file, os.R_OK):
            missing_file = True
            yield Contradiction(setting, f"{setting} = {str(file)!r}: there is no such file, or no right to read it")
    if missing_file:
        return
    try:
        # A key with a passphrase must not ask for it.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        text = f"{certificate} and {key} are no certificate and its key, in PEM without a passphrase: {reason}"
        yield Contradiction("tls_cert", text)
