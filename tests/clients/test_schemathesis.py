"""schemathesis asks every documented route for what nobody would: no failure, and no answer that is not documented."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import Server

pytestmark = pytest.mark.clients

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
# A deadline of a millisecond may be missed, and a version may not be in memory: these are refusals, not failures.
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
"""
EXAMPLES = 20


def test_every_route_answers_as_documented(foreign_server: Server, tmp_path: Path) -> None:
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(CONFIGURATION)
    program = Path(sys.executable).with_name("schemathesis")
    command = [str(program), "--config-file", str(configuration), "run", f"{foreign_server.url}/openapi.json"]
    command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "-n", str(EXAMPLES)]
    command += ["--seed", "1", "--continue-on-failure", "--no-color"]
    command += ["--request-timeout", "300", "--suppress-health-check", "too_slow"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr
    paths = foreign_server.request("GET", "/openapi.json").json()["paths"]
    # All but the one that it read the document from.
    assert f"Tested: {sum(len(item) for item in paths.values()) - 1}" in result.stdout
