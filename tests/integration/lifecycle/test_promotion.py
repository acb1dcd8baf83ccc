"""A version is promoted, proven on live requests, rolled back and let go."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from penstock.core.errors import RequestError
from penstock.core.models import Mirror
from penstock.registry.records import CHAMPION, EventKind
from tests.integration.numbered import ROW, times
from tests.integration.registered import BY, Node, refusal
from tests.integration.supervised import DEADLINE_SECONDS, until


def test_promote_swaps_and_rollback_swaps_back(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(times(folder, 2), "2.0.0")
    server.promote("1.0.0")
    assert server.answering(ROW) == "1.0.0"
    server.promote("2.0.0", reason="better")
    assert server.answering(ROW) == "2.0.0"
    assert server.answer(ROW, version=CHAMPION)[1]["version"] == "2.0.0"
    assert server.in_memory() == ["1.0.0", "2.0.0"]  # the one before stands by
    assert server.call(server.lifecycle.rollback("m", by=BY)) == "1.0.0"
    assert server.answering(ROW) == "1.0.0"


def test_without_standby_the_version_before_goes_at_once(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    assert server.in_memory() == ["2.0.0"]
    assert server.call(server.lifecycle.rollback("m", by=BY)) == "1.0.0"
    assert (server.answering(ROW), server.in_memory()) == ("1.0.0", ["1.0.0"])


def test_a_standby_goes_when_its_time_is_over(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0.5)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    until(lambda: server.in_memory() == ["2.0.0"], "the standby has gone")


def test_an_alias_that_somebody_else_has_moved_is_not_moved(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    for number in (1, 2, 3):
        server.register(times(folder, number), f"{number}.0.0")
    server.promote("1.0.0")
    error = refusal(server, server.lifecycle.set_alias("m", CHAMPION, "3.0.0", by=BY, expected="2.0.0"))
    assert error.code == "conflict"
    assert server.answering(ROW) == "1.0.0"
    server.call(server.lifecycle.set_alias("m", CHAMPION, "3.0.0", by=BY, expected="1.0.0"))
    assert server.answering(ROW) == "3.0.0"


def test_the_champion_is_not_unloaded_from_under_others(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(times(folder, 2), "2.0.0")
    server.promote("1.0.0")
    server.call(server.lifecycle.load("m", "2.0.0", lazy=False, by=BY))
    assert refusal(server, server.lifecycle.unload("m", "1.0.0", by=BY)).code == "conflict"
    server.call(server.lifecycle.unload("m", "2.0.0", by=BY))
    assert server.answering(ROW) == "1.0.0"


def test_models_of_the_configuration_are_not_the_registrys(node: Callable[..., Node], folder: Path) -> None:
    server = node(configured=frozenset({"m"}))
    server.register(times(folder, 1), "1.0.0")
    for call in (
        server.lifecycle.load("m", None, lazy=False, by=BY),
        server.lifecycle.promote("m", "1.0.0", by=BY),
        server.lifecycle.rollback("m", by=BY),
        server.lifecycle.unload("m", None, by=BY),
        server.lifecycle.set_alias("m", "staging", "1.0.0", by=BY),
    ):
        assert refusal(server, call).code == "conflict"


def test_a_registered_version_can_be_removed_when_nothing_leads_to_it(node: Callable[..., Node], folder: Path) -> None:
    server = node(standby_s=0)
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0")
    assert refusal(server, server.lifecycle.remove("m", "2.0.0", by=BY)).code == "conflict"
    server.call(server.lifecycle.remove("m", "1.0.0", by=BY))
    assert refusal(server, server.lifecycle.promote("m", "1.0.0", by=BY)).code == "version_not_found"


def test_a_version_is_proven_on_live_requests_before_it_answers(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    server.register(times(folder, 1), "1.0.0")
    server.register(times(folder, 2), "2.0.0")
    same = folder / "same"
    same.mkdir()
    times(same, 1)
    (same / "notes.txt").write_text("trained again")
    server.register(same, "3.0.0")
    server.promote("1.0.0")
    mirror = Mirror(share=1.0, rows=20, timeout_s=DEADLINE_SECONDS)
    assert refusal(server, server.lifecycle.promote("m", "1.0.0", by=BY, mirror=mirror)).code == "conflict"

    promoted = server.begin(server.lifecycle.promote("m", "2.0.0", by=BY, mirror=mirror))
    while not promoted.done():
        assert server.answering(ROW) == "1.0.0"
    error = promoted.exception()
    assert isinstance(error, RequestError)
    assert (error.code, "differ" in error.detail) == ("load_failed", True)
    until(lambda: server.in_memory() == ["1.0.0"], "what did not pass has left")

    promoted = server.begin(server.lifecycle.promote("m", "3.0.0", by=BY, mirror=mirror))
    answered = [server.answering(ROW)]
    while not promoted.done():
        answered.append(server.answering(ROW))
    promoted.result()
    assert set(answered) <= {"1.0.0", "3.0.0"}
    assert answered == sorted(answered)
    assert server.answering(ROW) == "3.0.0"


def test_history_says_what_answered_when(node: Callable[..., Node], folder: Path) -> None:
    server = node()
    moments = [datetime.now(UTC)]
    for number in (1, 2):
        server.register(times(folder, number), f"{number}.0.0")
        server.promote(f"{number}.0.0", reason=f"number {number}")
        moments.append(datetime.now(UTC))
    server.call(server.lifecycle.rollback("m", by="somebody else"))
    moments.append(datetime.now(UTC))

    def answered(at: datetime) -> list[tuple[str | None, str, str]]:
        events = server.call(server.registry.history("m", at=at))
        return [(event.version, event.by, event.node) for event in events if event.kind is EventKind.ACTIVE]

    assert [answered(moment) for moment in moments] == [
        [],
        [("1.0.0", BY, "here")],
        [("2.0.0", BY, "here")],
        [("1.0.0", "somebody else", "here")],
    ]
    assert answered(moments[1] - timedelta(hours=1)) == []
