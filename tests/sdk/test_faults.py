"""A request that may have run is not sent again: ten thousand calls against a server that fails in every way."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from penstock_client import AsyncClient, Client, PenstockError, Prediction, ProtocolError, RefusedError, Retries
from tests.sdk.faulty import FAULTS, FaultyServer

CALLS = 6_000
AT_ONCE = 32
RETRIES = Retries(attempts_max=8, backoff_s=0.0005, backoff_max_s=0.002)
# A server that says nothing is waited for so long.
TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the call with this id."""

    name: str
    ended: Prediction | PenstockError
    took_s: float

    @property
    def had_time_left(self) -> bool:
        return self.took_s < TIMEOUT_S - RETRIES.backoff_max_s


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    server = FaultyServer(seed=9)
    yield server
    server.stop()


def blocking(url: str, *, repeatable: bool, calls: int) -> list[Outcome]:
    with (
        Client(url, retries=RETRIES, timeout_s=TIMEOUT_S, repeatable=repeatable) as client,
        ThreadPoolExecutor(AT_ONCE) as threads,
    ):

        def call(number: int) -> Outcome:
            name, started = f"b{number}", time.monotonic()
            ended: Prediction | PenstockError
            try:
                ended = client.predict("m", {"id": name})
            except PenstockError as error:
                ended = error
            return Outcome(name, ended, time.monotonic() - started)

        return list(threads.map(call, range(calls)))


def awaiting(url: str, *, repeatable: bool, calls: int) -> list[Outcome]:
    async def main() -> list[Outcome]:
        async with AsyncClient(url, retries=RETRIES, timeout_s=TIMEOUT_S, repeatable=repeatable) as client:
            numbers = iter(range(calls))
            outcomes = []

            async def work() -> None:
                for number in numbers:
                    name, started = f"a{number}", time.monotonic()
                    ended: Prediction | PenstockError
                    try:
                        ended = await client.predict("m", {"id": name})
                    except PenstockError as error:
                        ended = error
                    outcomes.append(Outcome(name, ended, time.monotonic() - started))

            await asyncio.gather(*(work() for _ in range(AT_ONCE)))
            return outcomes

    return asyncio.run(main())


def check(outcome: Outcome, acted: Counter[str]) -> None:
    """Assert what a caller may rely on, whatever happened to the request."""
    if isinstance(outcome.ended, Prediction):
        assert outcome.ended.outputs == {"id": outcome.name}
        assert acted[outcome.name] == 1, outcome
        return
    assert acted[outcome.name] <= 1, outcome
    assert outcome.ended.request_id, outcome
    if not outcome.ended.may_have_run:
        assert acted[outcome.name] == 0, outcome


def test_nothing_runs_twice_that_was_not_marked_repeatable(faulty: FaultyServer) -> None:
    outcomes = blocking(faulty.url, repeatable=False, calls=CALLS) + awaiting(faulty.url, repeatable=False, calls=CALLS)
    assert len(outcomes) == 2 * CALLS
    for outcome in outcomes:
        check(outcome, faulty.acted)
    assert set(faulty.faults) == set(FAULTS)
    injected = sum(faulty.faults.values()) - faulty.faults["answer"]
    assert injected >= 10_000
    # What is safe to send again was, as long as there was time: hardly any call ends with a refusal that says so.
    assert sum(isinstance(outcome.ended, Prediction) for outcome in outcomes) > CALLS / 2
    refused = [
        one.ended
        for one in outcomes
        if isinstance(one.ended, RefusedError) and one.ended.retryable and one.had_time_left
    ]
    assert all(error.attempts == RETRIES.attempts_max for error in refused)
    assert len(refused) < CALLS / 50


def test_what_is_marked_repeatable_comes_through(faulty: FaultyServer) -> None:
    calls = 1_000
    outcomes = blocking(faulty.url, repeatable=True, calls=calls) + awaiting(faulty.url, repeatable=True, calls=calls)
    answered = [outcome for outcome in outcomes if isinstance(outcome.ended, Prediction)]
    assert all(isinstance(one.ended, Prediction) and one.ended.outputs == {"id": one.name} for one in answered)
    assert all(faulty.acted[outcome.name] >= 1 for outcome in answered)
    assert max(faulty.acted.values()) > 1
    # All but those to whom no Penstock has answered, or whose time was over.
    for outcome in outcomes:
        if not isinstance(outcome.ended, Prediction | ProtocolError) and outcome.had_time_left:
            assert outcome.ended.attempts == RETRIES.attempts_max
    assert len(answered) > calls
