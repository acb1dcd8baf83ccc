"""What `make sdk-types` writes is up to date."""

import pytest

from tests.sdk import async_twins, document_types


def test_types_of_documents() -> None:
    assert document_types.FILE.read_text() == document_types.as_python(), "run `make sdk-types`"


@pytest.mark.parametrize("mine", async_twins.TWINS)
def test_the_client_of_asyncio_is_the_blocking_one(mine: str) -> None:
    twin = async_twins.PACKAGE / async_twins.TWINS[mine]
    assert twin.read_text() == async_twins.as_async(mine), "run `make sdk-types`"
