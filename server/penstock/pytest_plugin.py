"""The plugin of pytest: fixtures that serve models for tests. docs/testing-models.md shows them.

pytest imports this module wherever Penstock is installed, so it imports nothing that pytest has not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from penstock.testing.servers import Servers
    from penstock.testing.serving import Served

__all__ = ["penstock_model", "penstock_server", "pytest_addoption", "pytest_configure"]

_MARKER = "penstock(*models, config=None, fresh=False, **settings): what the fixture penstock_model serves"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what may stand in pytest's configuration."""
    parser.addini("penstock_settings", "settings of all servers of penstock_server: NAME = VALUE", "linelist", [])
    parser.addini("penstock_start_s", "seconds that a server of penstock_server may take to start", "string", "600")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", _MARKER)


@pytest.fixture(scope="session")
def penstock_server(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Give what serves models when it is called with their paths and with settings.

    `server = penstock_server("models/digits", max_batch_size=8)` has `url`, `client` (of penstock_client), `model`,
    `logs` and `stop()`. Tests that ask for the same share it, and all are stopped at the end.
    """
    from penstock.testing.servers import Servers

    config = request.config
    servers = Servers(config.rootpath, _settings(config), _seconds(config))
    config.pluginmanager.register(servers, "penstock-servers")
    yield servers
    config.pluginmanager.unregister(servers)
    servers.stop()


@pytest.fixture
def penstock_model(request: pytest.FixtureRequest, penstock_server: Servers) -> Served:
    """Return the server of the models that the marker `penstock` names."""
    marker = request.node.get_closest_marker("penstock")
    if marker is None:
        raise pytest.UsageError("penstock_model serves what @pytest.mark.penstock(PATH) names, and there is none")
    return penstock_server(*marker.args, **marker.kwargs)


def _settings(config: pytest.Config) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in config.getini("penstock_settings"):
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise pytest.UsageError(f"penstock_settings: {line!r}: expected NAME = VALUE")
        found[name.strip()] = value.strip()
    return found


def _seconds(config: pytest.Config) -> float:
    text = config.getini("penstock_start_s")
    try:
        return float(text)
    except ValueError:
        raise pytest.UsageError(f"penstock_start_s = {text!r}: expected a number of seconds") from None
