"""Requests wait for a reader of images, but neither for ever nor with everything that they bring."""

from contextlib import ExitStack

import gevent
import pytest

from penstock.control.images import ImageReader
from penstock.core.errors import RequestError

MIB = 1 << 20


def use(reader: ImageReader, content: bytes) -> str:
    try:
        with reader.document(content):
            return "served"
    except RequestError as error:
        return f"{error.code}: {error.detail}"


def test_a_request_does_not_wait_for_ever() -> None:
    reader = ImageReader(wait_s=0.05)
    with reader.document(b"{}"), reader.document(b"{}"):
        assert use(reader, b"{}").startswith("memory_exhausted: the image has waited")
    assert use(reader, b"{}") == "served"


def test_what_waits_has_so_many_bytes() -> None:
    reader = ImageReader(wait_s=600.0)
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(reader.document(b"{}"))
        waiting = [gevent.spawn(use, reader, b" " * (30 * MIB)) for _ in range(2)]
        gevent.idle()
        assert use(reader, b" " * (5 * MIB)).startswith("memory_exhausted: 2 images wait")
    assert [each.get(timeout=300) for each in waiting] == ["served"] * 2


@pytest.mark.parametrize("size", [0, 100 * MIB])
def test_one_may_wait_whatever_it_has(size: int) -> None:
    reader = ImageReader(wait_s=600.0)
    with reader.document(b"{}"), ExitStack() as held:
        held.enter_context(reader.document(b"{}"))
        waiting = gevent.spawn(use, reader, b" " * size)
        gevent.idle()
        held.close()
        assert waiting.get(timeout=300) == "served"
