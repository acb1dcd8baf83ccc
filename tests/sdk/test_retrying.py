"""What is sent again, when, and with what: the request core driven by a script, without sockets or time."""

import itertools
import json
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

import pytest

from penstock_client import (
    ArgumentError,
    ConnectError,
    ConnectionLostError,
    PenstockError,
    ProtocolError,
    RefusedError,
    Retries,
    TimedOutError,
    TransportError,
)
from penstock_client.address import Address
from penstock_client.core import PLAIN, Call, Core, Request, Settings
from penstock_client.messages import Reply
from penstock_client.routes import Routes
from penstock_client.steps import Failure, Send, Sleep, Steps

T = TypeVar("T")

OK = Reply(200, b"HTTP/1.1 200 OK", bytearray(b"{}"))
NEVER_SENT = ConnectError("nobody there")
MAY_HAVE_RUN = ConnectionLostError("gone", may_have_run=True)
NOT_WHOLE = ConnectionLostError("gone", may_have_run=False)


def refused(status: int, code: str | None, retry_after: str | None = None) -> Reply:
    problem = {"detail": "no"} if code is None else {"code": code, "detail": "no"}
    field = "" if retry_after is None else f"\r\nRetry-After: {retry_after}"
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/problem+json{field}"
    return Reply(status, head.encode(), bytearray(json.dumps(problem).encode()))


class Script:
    """Answers one attempt after the other; notes what was sent, and how long was waited."""

    def __init__(self, outcomes: Sequence[Reply | TransportError]) -> None:
        self.sent: list[bytes] = []
        self.waits: list[float] = []
        self._outcomes = iter(outcomes)

    def run(self, *, method: str = "POST", call: Call = PLAIN, body: bytes | None = b"b", **settings: Any) -> Reply:
        return self.drive(core_of(**settings).send(Request(method, "/predict", body), call))

    def drive(self, steps: Steps[T]) -> T:
        outcome: Any = None
        try:
            while True:
                step = steps.send(outcome)
                if isinstance(step, Sleep):
                    self.waits.append(step.seconds)
                    outcome = None
                    continue
                assert isinstance(step, Send)
                self.sent.append(step.data + b"".join(step.more))
                scripted = next(self._outcomes)
                outcome = scripted if isinstance(scripted, Reply) else Failure(scripted)
        except StopIteration as stop:
            answer: T = stop.value
            return answer


def core_of(**settings: Any) -> Core:
    return Core(Settings(Address.of("http://h:1", None), "tests", **settings))


@pytest.mark.parametrize(
    "first",
    [
        NEVER_SENT,
        NOT_WHOLE,
        *(
            refused(status, code)
            for status, code in ((503, "queue_full"), (429, "too_many_requests"), (503, "draining"))
        ),
        *(refused(status, code) for status, code in ((408, "request_timeout"), (502, "control_plane_unavailable"))),
    ],
)
def test_what_did_not_run_is_sent_again(first: Reply | TransportError) -> None:
    script = Script([first, OK])
    assert script.run() is OK
    assert len(script.sent) == 2


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        (MAY_HAVE_RUN, ConnectionLostError),
        (TimedOutError("late", may_have_run=True), TimedOutError),
        (refused(503, "worker_died"), RefusedError),
        (refused(504, "deadline_exceeded"), TimeoutError),
        (refused(500, "internal_error"), RefusedError),
        (refused(503, None), RefusedError),
        (refused(502, None), RefusedError),
        (refused(429, None), RefusedError),
        (refused(503, "from_the_future"), RefusedError),
    ],
)
def test_what_may_have_run_is_sent_again_only_where_it_is_repeatable(
    first: Reply | TransportError, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        Script([first, OK]).run()
    assert Script([first, OK]).run(call=Call(repeatable=True)) is OK
    assert Script([first, OK]).run(repeatable=True) is OK
    assert Script([first, OK]).run(method="GET", body=None) is OK
    with pytest.raises(kind):
        Script([first, OK]).run(repeatable=True, call=Call(repeatable=False))


@pytest.mark.parametrize(
    "first",
    [
        refused(422, "invalid_input"),
        refused(404, "model_not_found"),
        refused(413, "body_too_large"),
        refused(302, None),
        ProtocolError("babble", may_have_run=True),
    ],
)
def test_what_would_end_the_same_way_is_never_sent_again(first: Reply | TransportError) -> None:
    script = Script([first, OK])
    with pytest.raises(PenstockError):
        script.run(repeatable=True)
    assert len(script.sent) == 1


def test_waits_grow_and_differ() -> None:
    retries = Retries(attempts_max=8, backoff_s=0.1, backoff_max_s=1.0)
    script = Script([NEVER_SENT] * 7 + [OK])
    script.run(retries=retries, timeout_s=None)
    bounds = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert all(bound / 2 <= wait <= bound for wait, bound in zip(script.waits, bounds, strict=True))
    other = Script([NEVER_SENT] * 7 + [OK])
    other.run(retries=retries, timeout_s=None)
    assert other.waits != script.waits


def test_attempts_are_bounded_and_counted() -> None:
    script = Script([NEVER_SENT] * 9)
    with pytest.raises(ConnectError) as caught:
        script.run(retries=Retries(attempts_max=3))
    assert len(script.sent) == 3
    assert caught.value.attempts == 3
    with pytest.raises(ConnectError):
        Script([NEVER_SENT, OK]).run(retries=Retries(attempts_max=1))
    with pytest.raises(ArgumentError):
        Retries(attempts_max=0)


def test_a_refusal_does_not_unsay_that_an_earlier_attempt_may_have_run() -> None:
    script = Script([MAY_HAVE_RUN, *[refused(503, "queue_full")] * 3])
    with pytest.raises(RefusedError) as caught:
        script.run(call=Call(repeatable=True))
    assert (caught.value.attempts, caught.value.may_have_run) == (4, True)


def test_what_goes_further_the_second_time_is_sent_once() -> None:
    """A server that says that it did nothing may be wrong: its database was late, and did it."""
    for routes, expected in ((Routes(core_of()).post, 2), (Routes(core_of()).post_once, 1)):
        script = Script([refused(503, "registry_unavailable"), OK])
        with suppress(RefusedError):
            assert script.drive(routes(dict, "/models", "m", "rollback", document={})) == {}
        assert len(script.sent) == expected


def test_retry_after_is_honoured() -> None:
    script = Script([refused(503, "queue_full", "7"), OK])
    script.run(retries=Retries(backoff_s=0.1))
    assert 7.05 <= script.waits[0] <= 7.1
    script = Script([refused(503, "queue_full", "31"), OK])
    with pytest.raises(RefusedError) as caught:
        script.run()
    assert caught.value.retry_after_s == 31.0
    assert script.waits == []
    assert Script([refused(503, "queue_full", "31"), OK]).run(retries=Retries(retry_after_max_s=60), timeout_s=90) is OK


@pytest.mark.parametrize("said", ["soon", "-1", "inf", "nan", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_none(said: str) -> None:
    script = Script([refused(503, "queue_full", said), OK])
    script.run()
    assert script.waits[0] <= 0.05


def test_no_wait_ends_after_the_calls_time() -> None:
    script = Script([refused(503, "queue_full", "2"), OK])
    with pytest.raises(RefusedError):
        script.run(timeout_s=1.0)
    assert script.waits == []


def test_every_attempt_has_the_same_id_and_less_time() -> None:
    script = Script([NEVER_SENT, NEVER_SENT, OK])
    script.run(timeout_s=30.0)
    ids = [re.findall(rb"X-Request-Id: (\S+)\r\n", sent) for sent in script.sent]
    assert len({tuple(found) for found in ids}) == 1
    times = [int(re.findall(rb"X-Request-Timeout-Ms: (\d+)\r\n", sent)[0]) for sent in script.sent]
    assert times == sorted(times, reverse=True)
    assert 29_000 < times[-1] <= times[0] <= 30_000


@pytest.mark.parametrize("timeout_s", [None, math.inf])
def test_without_a_limit_none_is_sent(timeout_s: float | None) -> None:
    script = Script([OK])
    script.run(timeout_s=None, call=Call(timeout_s=timeout_s))
    assert b"Timeout" not in script.sent[0]


def test_ids_are_not_made_twice() -> None:
    scripts = [Script([OK]) for _ in range(100)]
    for script in scripts:
        script.run()
    found = [re.findall(rb"X-Request-Id: (\S+)\r\n", script.sent[0])[0] for script in scripts]
    assert all(one != other for one, other in itertools.pairwise(found))
    assert len(set(found)) == 100


def test_what_is_sent() -> None:
    script = Script([OK])
    call = Call(priority="batch", receipt=True, reproducible=True, request_id="id-1")
    script.run(call=call, timeout_s=None, key="psk_1")
    assert script.sent[0] == (
        b"POST /predict HTTP/1.1\r\nHost: h:1\r\nUser-Agent: tests\r\nAuthorization: Bearer psk_1\r\n"
        b"Accept: application/json\r\nX-Request-Id: id-1\r\nX-Request-Priority: batch\r\nX-Penstock-Receipt: true\r\n"
        b"X-Penstock-Reproducible: true\r\nContent-Length: 1\r\n\r\nb"
    )


def test_a_large_body_is_sent_anew_each_time() -> None:
    body = bytes(100_000)
    script = Script([NEVER_SENT, OK])
    script.run(body=body)
    assert all(sent.endswith(body) for sent in script.sent)


def test_a_call_that_is_given_up_ends_its_steps() -> None:
    core = Core(Settings(Address.of("http://h:1", None), "tests"))
    steps = core.send(Request("POST", "/predict", b"b"))
    next(steps)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://[::1]:8000", b"Host: [::1]:8000\r\n"),
        ("http://h", b"Host: h\r\n"),
        ("https://h:443", b"Host: h\r\n"),
        ("https://h:80/prefix/", b"Host: h:80\r\n"),
        ("unix:/run/p.sock", b"Host: localhost\r\n"),
        ("http://bücher.example", b"Host: xn--bcher-kva.example\r\n"),
    ],
)
def test_hosts(url: str, host: bytes) -> None:
    core = Core(Settings(Address.of(url, None), "tests"))
    step = next(core.send(Request("GET", "/v2")))
    assert isinstance(step, Send)
    assert host in step.data
    assert step.data.startswith(b"GET /prefix/v2 " if "prefix" in url else b"GET /v2 ")
