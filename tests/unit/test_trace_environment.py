"""What the standard variables of OpenTelemetry mean to the export of traces."""

import logging
import socket

import pytest

from penstock import __version__
from penstock.telemetry.environment import destination_of, resource_of


@pytest.mark.parametrize(
    ("endpoint", "variables", "url"),
    [
        (None, {}, "http://localhost:4318/v1/traces"),
        (None, {"": "http://c:1"}, "http://c:1/v1/traces"),
        (None, {"": "http://c:1/base/"}, "http://c:1/base/v1/traces"),
        (None, {"": "http://c:1", "TRACES_": "http://t:2/as/it/is"}, "http://t:2/as/it/is"),
        ("http://own:3", {"": "http://c:1", "TRACES_": "http://t:2"}, "http://own:3/v1/traces"),
        ("http://own:3/", {}, "http://own:3/v1/traces"),
        ("http://own:3/whole", {}, "http://own:3/whole"),
    ],
)
def test_where_traces_go(endpoint: str | None, variables: dict[str, str], url: str) -> None:
    environment = {f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT": value for kind, value in variables.items()}
    assert destination_of(endpoint, environment).url == url


def test_how_they_are_sent() -> None:
    general = {"HEADERS": "a=1", "TIMEOUT": "3", "COMPRESSION": "gzip", "CERTIFICATE": "ca", "CLIENT_KEY": "key"}
    environment = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in general.items()}
    found = destination_of(None, environment)
    assert (dict(found.headers), found.timeout_s, found.compression) == ({"a": "1"}, 3.0, "gzip")
    assert (found.certificate, found.client_certificate, found.client_key) == ("ca", None, "key")
    of_traces = {"HEADERS": "Authorization=Basic%20YTpi , x = y=z", "TIMEOUT": "0.5", "COMPRESSION": "none"}
    environment |= {f"OTEL_EXPORTER_OTLP_TRACES_{name}": value for name, value in of_traces.items()}
    found = destination_of(None, environment)
    assert dict(found.headers) == {"authorization": "Basic YTpi", "x": "y=z"}
    assert (found.timeout_s, found.compression) == (0.5, "none")


def test_what_cannot_be_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_HEADERS": "no-value,ok=1,bad=%0d%0aInjected: 1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "zip",
    }
    with caplog.at_level(logging.WARNING):
        found = destination_of(None, environment)
    assert (dict(found.headers), found.timeout_s, found.compression) == ({"ok": "1"}, 10.0, "none")
    assert len(caplog.records) == 4


def test_what_spans_come_from() -> None:
    found = resource_of(None, 7, {})
    assert found["service.name"] == "penstock" and found["service.version"] == __version__
    assert found["service.instance.id"] == f"{socket.gethostname()}:7"
    environment = {
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=of%20attributes, deployment.environment.name = a=b ,,broken"
    }
    found = resource_of(None, 7, environment)
    assert found["service.name"] == "of attributes" and found["deployment.environment.name"] == "a=b"
    environment["OTEL_SERVICE_NAME"] = "of-variable"
    assert resource_of(None, 7, environment)["service.name"] == "of-variable"
    assert resource_of("of-setting", 7, environment)["service.name"] == "of-setting"
