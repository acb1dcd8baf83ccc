"""The native modules: built, of one build, and which variant of the kernels this processor gets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import penstock
from penstock.cli.doctor.checks import Check, Checks, fault, installing, ok, warning

__all__ = ["native_checks"]

_SECONDS = 60.0
_VARIABLE = "PENSTOCK_LANE"


def native_checks() -> Checks:
    """Look at the modules, in a process of its own."""
    found = _survey()
    if isinstance(found, str):
        yield fault("native modules", f"they end the process that loads them: {found}", _build())
        return
    broken = {**dict.fromkeys(found["missing"], "is not built"), **found["broken"]}
    for name, absent in found["stale"].items():
        broken[name] = f"is of another version than its Python: it has no {', '.join(absent[:3])}"
    for name, text in broken.items():
        yield fault("native modules", f"{name} {text}", _build())
    if broken:
        return
    if "lane_refused" in found:
        yield fault("kernels", f"{_VARIABLE} cannot be had: {found['lane_refused']}", f"unset {_VARIABLE}")
        return
    if found["apart"]:
        yield fault("native modules", f"data plane and workers are of two builds: {found['apart']}", _build())
    else:
        yield ok("native modules", "built, and of one build")
    yield _kernels(found)
    yield from _built_with(found)


def _survey() -> dict[str, Any] | str:
    """Return what the probe found, or what became of it."""
    script = Path(__file__).with_name("native_probe.py")
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(script)],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=around,
        )
    except subprocess.TimeoutExpired:
        return f"nothing within {_SECONDS:g} s"
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return document


def _kernels(found: Mapping[str, Any]) -> Check:
    lane, lanes = found["lane"], found["lanes"]
    text = f"the lane {lane}, of {', '.join(lanes)}"
    if lane != lanes[-1] and os.environ.get(_VARIABLE):
        return warning("kernels", f"{text}: {_VARIABLE} keeps the faster ones away", f"unset {_VARIABLE}")
    return ok("kernels", text)


def _built_with(found: Mapping[str, Any]) -> Checks:
    packages = {
        "HTTP/2 and gRPC": (found["http2"], "libnghttp2-dev"),
        "TLS": (found["tls"], "libssl-dev"),
        "compression": (found["codings"] != "identity", "zlib1g-dev libzstd-dev"),
    }
    built = [name for name, (there, _) in packages.items() if there]
    yield ok("built with", ", ".join(built) or "no optional library")
    for name, (there, package) in packages.items():
        if not there:
            mend = f"sudo apt-get install {package} && {_build()}"
            yield warning("built with", f"this Penstock was built without {name}", mend)


def _build() -> str:
    root = Path(penstock.__file__).parents[2]
    if (root / "CMakeLists.txt").is_file() and (root / "Makefile").is_file():
        return f"make -C {root} native"
    return installing(penstock.__version__)
