"""What wakes the hub of the control plane: other threads, signals, conditions."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from penstock.control.hub import HubEvent, wait_until


def test_hub_event_wakes_the_hub_from_another_thread() -> None:
    event = HubEvent()
    thread = threading.Thread(target=event.set)
    thread.start()
    event.wait()
    thread.join()
    assert event.is_set()


def test_hub_event_wakes_the_hub_from_a_signal_handler() -> None:
    event = HubEvent()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: event.set())
    try:
        threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        event.wait()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_one_of_several_hub_events_is_enough() -> None:
    first, second = HubEvent(), HubEvent()
    threading.Thread(target=second.set).start()
    HubEvent.wait_any(first, second)
    assert (first.is_set(), second.is_set()) == (False, True)


@pytest.mark.parametrize(("answers", "result"), [([False, False, True], True), ([True], True), ([False], False)])
def test_wait_until_returns_what_became_of_the_condition(answers: list[bool], result: bool) -> None:
    left: Callable[[], bool] = lambda: answers.pop(0) if len(answers) > 1 else answers[0]  # noqa: E731
    assert wait_until(left, 30.0 if result else 0.0, interval_s=0.0) is result
