"""What a server says of itself: its metrics, and the schema of a model."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families

from penstock.core.errors import LoadError, UnreachableError
from penstock.load.generator import Address
from penstock.load.rows import TensorSpec

__all__ = ["Headers", "Metrics", "ServedModel", "fetch_metrics", "fetch_model", "parse_metrics"]

TIMEOUT_SECONDS = 60.0
# Header fields of requests, such as the one that shows a key.
Headers: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The samples of one scrape: (name, labels, value)."""

    samples: tuple[tuple[str, dict[str, str], float], ...]

    def total(self, name: str, **labels: str) -> float:
        """Sum the samples of a name whose labels include these; 0 when there are none."""
        return sum(self._matching(name, labels))

    def largest(self, name: str, **labels: str) -> float:
        """Return the largest sample of a name whose labels include these; KeyError when there is none."""
        values = self._matching(name, labels)
        if not values:
            raise KeyError(name)
        return max(values)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """Sum the samples of a name by one of their labels."""
        found: dict[str, float] = {}
        for sample, labels, value in self.samples:
            if sample == name and label in labels:
                found[labels[label]] = found.get(labels[label], 0.0) + value
        return found

    def _matching(self, name: str, labels: dict[str, str]) -> list[float]:
        return [value for found, carried, value in self.samples if found == name and labels.items() <= carried.items()]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model version as a server describes it; with a plan `record` is the JSON Schema of what it takes."""

    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    record: Mapping[str, Any] | None = None


def parse_metrics(text: str) -> Metrics:
    """Read Prometheus' text format."""
    families = text_string_to_metric_families(text)
    return Metrics(
        tuple((sample.name, dict(sample.labels), sample.value) for family in families for sample in family.samples)
    )


def fetch_metrics(address: Address, headers: Headers = ()) -> Metrics:
    """Read /metrics; LoadError when there is none."""
    return parse_metrics(_get(address, "/metrics", headers).decode())


def fetch_model(address: Address, name: str, version: str | None = None, headers: Headers = ()) -> ServedModel:
    """Ask for a model's schema; LoadError when the server, the model or its schema is not there."""
    body = _get(address, f"/models/{quote(name, safe='')}", headers)
    try:
        return _served(address, name, version, json.loads(body))
    except (ValueError, KeyError, TypeError) as error:
        raise LoadError(f"something at {address} answers, but not as Penstock does: {body[:100]!r}") from error


def _served(address: Address, name: str, version: str | None, document: dict[str, Any]) -> ServedModel:
    wants_latest = version is None or version == "latest"
    versions = [
        each for each in document["versions"] if (each["latest"] if wants_latest else each["version"] == version)
    ]
    if not versions:
        known = ", ".join(each["version"] for each in document["versions"])
        raise LoadError(f"model {name!r} has no version {version!r} at {address}: there are {known}")
    found = versions[0]
    if not found["inputs"]:
        raise LoadError(f"model {name!r} is {found['state']} and has no schema yet: try again when it is ready")
    longest = max((found["batching"] or {}).get("lengths", ()), default=0)  # null when not loaded
    inputs, outputs = (tuple(_spec(tensor, longest) for tensor in found[which]) for which in ("inputs", "outputs"))
    return ServedModel(name, found["version"], inputs, outputs, found.get("record"))


def _spec(tensor: dict[str, Any], longest: int) -> TensorSpec:
    varies = tensor["shape"][:1] == [None]
    shape = (longest, *tensor["shape"][1:]) if varies else tuple(tensor["shape"])
    return TensorSpec(tensor["name"], tensor["dtype"], shape, varies)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


def _get(address: Address, path: str, headers: Headers) -> bytes:
    if address.port == 0:
        connection: http.client.HTTPConnection = _UnixConnection(address.host)
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers=dict(headers))
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreachableError(f"nothing answers at {address}: {reason}; is `penstock serve` running there?") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LoadError(f"GET {path} at {address} answered {response.status}: {_detail(body)}")
    return body


def _detail(body: bytes) -> str:
    try:
        document = json.loads(body)
        return str(document.get("detail") or document.get("title"))
    except (ValueError, AttributeError):
        return body[:200].decode(errors="replace")
