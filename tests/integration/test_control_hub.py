"""What wakes the hub of the control plane: other threads, signals, conditions."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from penstock.control.hub import HubEvent, heard_signals, wait_until
from tests.integration.supervised import DEADLINE_SECONDS

# The signal comes from the last thing that the loop does before it sleeps, after which no instruction of Python's runs.
SIGNALLED_LAST = """
import os, signal, gevent
from penstock.control.hub import HubEvent, heard_signals
event = HubEvent()
signal.signal(signal.SIGUSR1, lambda number, frame: event.set())
last = gevent.get_hub().loop.prepare(priority=-2)
sent = map(signal.pidfd_send_signal, [os.pidfd_open(os.getpid())], [signal.SIGUSR1])
with heard_signals():
    last.start(next, sent, None)
    event.wait()
assert list(sent) == []
"""


@contextmanager
def handling(handle: Callable[[], None]) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handle())
    yield
    signal.signal(signal.SIGUSR1, before)


def test_hub_event_wakes_the_hub_from_another_thread() -> None:
    event = HubEvent()
    thread = threading.Thread(target=event.set)
    thread.start()
    event.wait()
    thread.join()
    assert event.is_set()


def test_hub_event_wakes_the_hub_from_a_signal_handler() -> None:
    event = HubEvent()
    with handling(event.set), heard_signals():
        threading.Timer(0.0, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        event.wait()


def test_a_signal_is_heard_that_comes_just_before_the_hub_sleeps() -> None:
    result = subprocess.run([sys.executable, "-c", SIGNALLED_LAST], timeout=DEADLINE_SECONDS, check=False)
    assert result.returncode == 0


def test_a_signal_wakes_nobody_any_more_when_nobody_wants_to_hear_it() -> None:
    with heard_signals():
        heard = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(heard)
    assert heard != -1
    assert signal.set_wakeup_fd(-1) == -1


def test_one_of_several_hub_events_is_enough() -> None:
    first, second = HubEvent(), HubEvent()
    threading.Thread(target=second.set).start()
    HubEvent.wait_any(first, second)
    assert (first.is_set(), second.is_set()) == (False, True)


@pytest.mark.parametrize(("answers", "result"), [([False, False, True], True), ([True], True), ([False], False)])
def test_wait_until_returns_what_became_of_the_condition(answers: list[bool], result: bool) -> None:
    left: Callable[[], bool] = lambda: answers.pop(0) if len(answers) > 1 else answers[0]  # noqa: E731
    assert wait_until(left, 30.0 if result else 0.0, interval_s=0.0) is result
