"""Libraries: which are there, whether their versions are supported, and how the others are got.

Nothing is imported: what is installed says so itself, and importing some takes seconds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from penstock.cli.doctor.checks import Check, Checks, fault, installing, ok, warning
from penstock.core.config import BackendName, Convert, ModelConfig, ServerConfig
from penstock.core.devices import visible_gpus

__all__ = ["Requirement", "extras_needed", "is_within", "library_checks", "requirements_of"]

# What an extra is for, in the order in which they are told.
_PURPOSES = {
    "onnx": "ONNX models",
    "torch": "PyTorch models",
    "tensorflow": "TensorFlow and Keras models",
    "sklearn": "scikit-learn models",
    "xgboost": "XGBoost models",
    "mlflow": "folders of MLflow",
    "tensorrt": "TensorRT",
    "gpu": "GPUs",
    "tokens": "plans with tokens",
    "images": "images as inputs",
    "arrow": "Arrow and Parquet",
    "grpc": "gRPC beside inference and health",
    "postgres": "a registry in PostgreSQL",
    "s3": "artefacts in S3 and elsewhere",
    "redis": "a cache that servers share",
    "bench": "penstock bench",
}
# Distributions with the same module: any will do, and two at once write over each other.
_ALIKE = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "xgboost-cpu": ("xgboost-cpu", "xgboost"),
    "tensorflow-cpu": ("tensorflow-cpu", "tensorflow"),
}
# Where a distribution's module has another name than the distribution.
_MODULES = {
    "cuda-bindings": "cuda",
    "hdrhistogram": "hdrh",
    "nvidia-ml-py": "pynvml",
    "onnxruntime-gpu": "onnxruntime",
    "pillow": "PIL",
    "protobuf": "google",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
    "tensorflow-cpu": "tensorflow",
    "xgboost-cpu": "xgboost",
}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?(?:\s*;.*extra == ['\"]([\w-]+)['\"])?")
_BACKENDS = {
    BackendName.ONNX: "onnx",
    BackendName.TORCH: "torch",
    BackendName.TENSORRT: "tensorrt",
    BackendName.TENSORFLOW: "tensorflow",
    BackendName.SKLEARN: "sklearn",
    BackendName.XGBOOST: "xgboost",
    BackendName.MLFLOW: "mlflow",
}


@dataclass(frozen=True, slots=True)
class Requirement:
    """A distribution and the versions of it that are supported, such as ">=2.13,<3"."""

    name: str
    versions: str
    extra: str = ""


def library_checks(needed: Mapping[str, str]) -> Checks:
    """Look at Penstock's own libraries, then at those of each extra; `needed` says of some extras what for."""
    try:
        requirements = requirements_of(importlib.metadata.requires("penstock") or ())
    except importlib.metadata.PackageNotFoundError:
        yield fault(
            "libraries", "Penstock runs without being installed, so nothing says what it needs", "pip install -e ."
        )
        return
    own = [_look(requirement) for requirement in requirements if not requirement.extra]
    wrong = [text for text, well in own if not well]
    if wrong:
        yield fault("libraries", f"Penstock itself needs others: {'; '.join(wrong)}", installing())
    else:
        yield ok("libraries", ", ".join(text for text, _ in own))
    for extra, purpose in _PURPOSES.items():
        wanted = [requirement for requirement in requirements if requirement.extra == extra]
        if wanted:
            yield _extra(extra, purpose, wanted, needed.get(extra))
    yield from _doubled()


def _extra(extra: str, purpose: str, wanted: Iterable[Requirement], needed_for: str | None) -> Check:
    looked = [(_installed(requirement) is not None, *_look(requirement)) for requirement in wanted]
    texts = ", ".join(text for _, text, _ in looked)
    mend = f"pip install 'penstock[{extra}]'"
    if all(well for _, _, well in looked):
        return ok(extra, f"{texts}: {purpose}")
    if needed_for is not None:
        return fault(extra, f"{needed_for} needs it: {texts}", mend)
    if not any(there for there, _, _ in looked):
        return ok(extra, f"not installed: {purpose}", mend)
    # Without a GPU nobody misses a part of what is for GPUs.
    state = ok if extra == "gpu" and not visible_gpus() else warning
    return state(extra, f"{texts}: {purpose}", mend)


def _look(requirement: Requirement) -> tuple[str, bool]:
    """Say what is installed, and whether it is well."""
    found = _installed(requirement)
    if found is None:
        return f"{requirement.name} is not installed", False
    name, version = found
    if not is_within(version, requirement.versions):
        return f"{name} {version}, of which {requirement.versions} is supported", False
    module = _MODULES.get(name, name.replace("-", "_"))
    try:
        there = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        there = False
    return (f"{name} {version}", True) if there else (f"{name} {version} is damaged: it has no module {module}", False)


def _installed(requirement: Requirement) -> tuple[str, str] | None:
    """Return the name and version of the distribution, or of one with the same modules."""
    names = _ALIKE.get(requirement.name, (requirement.name,))
    return next((found for name in names if (found := _exact(name)) is not None), None)


def _doubled() -> Checks:
    for alike in _ALIKE.values():
        there = [each for each in alike if _exact(each) is not None]
        if len(there) > 1:
            text = f"{' and '.join(there)} have the same modules, and whichever came last is what counts"
            yield warning("libraries", text, f"pip uninstall -y {' '.join(there)} && pip install {there[-1]}")


def _exact(name: str) -> tuple[str, str] | None:
    try:
        return name, importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def requirements_of(lines: Iterable[str]) -> list[Requirement]:
    """Read requirements as a distribution's metadata has them."""
    found = []
    for line in lines:
        match = _REQUIREMENT.match(line)
        if match is not None:
            versions = ",".join(sorted(part.strip() for part in match[2].split(",") if part.strip())[::-1])
            found.append(Requirement(match[1].lower().replace("_", "-"), versions, match[3] or ""))
    return found


def is_within(version: str, versions: str) -> bool:
    """Tell whether a version is one of those that ">=2.13,<3" allows."""
    have = _release(version)
    for clause in filter(None, (clause.strip() for clause in versions.split(","))):
        match = re.fullmatch(r"(>=|<=|==|!=|<|>|~=)\s*([0-9.]+)(\.\*)?", clause)
        if match is None:
            continue
        rule, bound = match[1], _release(match[2])
        width = max(len(have), len(bound))
        one, other = (each + (0,) * (width - len(each)) for each in (have, bound))
        if match[3]:
            one, other = one[: len(bound)], bound
        allowed = {
            ">=": one >= other,
            "<=": one <= other,
            "<": one < other,
            ">": one > other,
            "==": one == other,
            "!=": one != other,
            "~=": one >= other and one[: len(bound) - 1] == bound[:-1],
        }
        if not allowed[rule]:
            return False
    return True


def _release(version: str) -> tuple[int, ...]:
    match = re.match(r"(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(map(int, match[1].split("."))) if match else ()


def extras_needed(config: ServerConfig) -> dict[str, str]:
    """Return which extras the settings need, and what for."""
    needed: dict[str, str] = {}
    if config.store is not None and not config.store.startswith("sqlite"):
        needed["postgres"] = "store"
    if config.artefacts is not None and "://" in config.artefacts:
        needed["s3"] = "artefacts"
    if config.cache_redis is not None:
        needed["redis"] = "cache_redis"
    for model in config.models:
        for extra in _of_model(model):
            needed.setdefault(extra, f"model {model.name!r}")
    return needed


def _of_model(model: ModelConfig) -> Collection[str]:
    from penstock.core.errors import ModelLoadError
    from penstock.worker.backends import choose_backend

    try:
        backend = BackendName(choose_backend(model.path, model.backend))
    except ModelLoadError:
        return ()  # which the settings' check tells
    extras = {_BACKENDS[backend]} if backend in _BACKENDS else set()
    if model.device.startswith("cuda"):
        extras.add("gpu")
    if model.convert is Convert.ONNX:
        extras.add("onnx")
    return extras
