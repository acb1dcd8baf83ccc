"""Records that wait for the export: none is lost without being counted, and no half of one gets in."""

import threading

import pytest

from penstock.telemetry.packets import RECORD_BYTES
from penstock.telemetry.waiting import Waiting

SECONDS = 300.0


def records(count: int, first: int = 0) -> bytes:
    return b"".join(bytes([first + number]) * RECORD_BYTES for number in range(count))


def test_what_was_put_in_comes_out_in_order() -> None:
    waiting = Waiting(10)
    waiting.put(records(3))
    waiting.put(records(2, first=3))
    assert waiting.take(5, SECONDS) == records(5)  # at once: it is enough


def test_no_more_than_a_packet_beyond_what_is_wanted_comes() -> None:
    waiting = Waiting(10)
    for first in range(0, 9, 3):
        waiting.put(records(3, first))
    assert waiting.take(4, SECONDS) == records(6)
    waiting.close()
    assert waiting.take(4, SECONDS) == records(3, first=6)
    assert waiting.take(4, SECONDS) is None


def test_what_there_is_no_room_for_is_counted() -> None:
    waiting = Waiting(4)
    waiting.put(records(3))
    waiting.put(records(3, first=3))
    waiting.put(records(1, first=6))
    assert waiting.dropped == 3
    assert waiting.take(4, SECONDS) == records(4)
    waiting.put(records(1))
    waiting.close()
    assert waiting.dropped == 3 and waiting.take(4, SECONDS) == records(1)


def test_halves_of_records_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole records"):
        Waiting(4).put(records(1)[:-1])


def test_whoever_waits_without_end_hears_of_the_end() -> None:
    waiting = Waiting(4)
    taken: list[bytes | None] = []
    thread = threading.Thread(target=lambda: taken.append(waiting.take(4, SECONDS)))
    thread.start()
    waiting.close()
    thread.join(SECONDS)
    assert taken == [None]
