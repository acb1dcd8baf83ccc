"""What the standard variables of OpenTelemetry say: where traces go, how they are sent, and what they come from.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and .../configuration/sdk-environment-variables/.
"""

from __future__ import annotations

import logging
import socket
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock import __version__

__all__ = ["Destination", "destination_of", "resource_of"]

_log = logging.getLogger("penstock.telemetry")

_DEFAULT_NAME = "penstock"
_DEFAULT_ENDPOINT = "http://localhost:4318"
_DEFAULT_TIMEOUT_S = 10.0
_TRACES = "/v1/traces"
_COMPRESSIONS = ("none", "gzip", "deflate")


@dataclass(frozen=True, slots=True)
class Destination:
    """A collector and how it is asked. Files are PEM; None: those of the system, and no certificate of our own."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float
    compression: str
    certificate: str | None
    client_certificate: str | None
    client_key: str | None


def destination_of(endpoint: str | None, environment: Mapping[str, str]) -> Destination:
    """Read the variables; `endpoint`, if given, comes before theirs: a base URL, or the whole of it."""

    def of_traces(name: str) -> str | None:
        return environment.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or environment.get(f"OTEL_EXPORTER_OTLP_{name}")

    return Destination(
        url=_url(endpoint, environment),
        headers=dict(_headers(of_traces("HEADERS") or "")),
        timeout_s=_timeout(of_traces("TIMEOUT")),
        compression=_compression(of_traces("COMPRESSION")),
        certificate=of_traces("CERTIFICATE"),
        client_certificate=of_traces("CLIENT_CERTIFICATE"),
        client_key=of_traces("CLIENT_KEY"),
    )


def resource_of(service_name: str | None, parent: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Say what the spans come from. `service_name`: before all variables, if given; `parent`: the server's pid."""
    resource = {
        "telemetry.sdk.name": "penstock",
        "telemetry.sdk.language": "cpp",
        "telemetry.sdk.version": __version__,
        "service.name": _DEFAULT_NAME,
        "service.version": __version__,
        "service.instance.id": f"{socket.gethostname()}:{parent}",
    }
    resource |= _pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES")
    name = service_name or environment.get("OTEL_SERVICE_NAME")
    return resource | ({"service.name": name} if name else {})


def _url(endpoint: str | None, environment: Mapping[str, str]) -> str:
    if endpoint is not None:
        is_base = endpoint.count("/") <= (3 if endpoint.endswith("/") else 2)
        return endpoint.rstrip("/") + _TRACES if is_base else endpoint
    return environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or (
        (environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _DEFAULT_ENDPOINT).removesuffix("/") + _TRACES
    )


def _headers(text: str) -> Iterator[tuple[str, str]]:
    for name, value in _pairs(text, "OTEL_EXPORTER_OTLP_HEADERS").items():
        name = urllib.parse.unquote(name).lower()
        if name.isascii() and name.isprintable() and value.isprintable():
            yield name, value
        else:
            _log.warning("OTEL_EXPORTER_OTLP_HEADERS: the field %r is left out: it cannot be sent", name)


def _pairs(text: str, variable: str) -> dict[str, str]:
    """Names and values, percent-encoded, as key=value,key=value."""
    pairs: dict[str, str] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        name, equals, value = item.partition("=")
        if equals and name.strip():
            pairs[name.strip()] = urllib.parse.unquote(value.strip())
        else:
            _log.warning("%s: %r is left out: it is no key=value", variable, item)
    return pairs


def _timeout(text: str | None) -> float:
    try:
        return float(text or _DEFAULT_TIMEOUT_S)
    except ValueError:
        _log.warning(
            "OTEL_EXPORTER_OTLP_TIMEOUT is %r, which is no number of seconds: taking %s", text, _DEFAULT_TIMEOUT_S
        )
        return _DEFAULT_TIMEOUT_S


def _compression(text: str | None) -> str:
    name = (text or "none").strip().lower()
    if name in _COMPRESSIONS:
        return name
    _log.warning("OTEL_EXPORTER_OTLP_COMPRESSION is %r: expected one of %s", text, ", ".join(_COMPRESSIONS))
    return "none"
