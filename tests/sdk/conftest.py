"""What tests of the SDK share."""

import pytest

from tests.sdk.asking import Ask, async_asker, sync_asker
from tests.serving import Server


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest, server: Server) -> Ask:
    """Ask the server of the small models, with either client."""
    return (sync_asker if request.param == "blocking" else async_asker)(server.url)
