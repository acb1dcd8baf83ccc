"""What the registry wants of a model, and the routes that follow."""

from penstock.registry.records import Wanted, WantedMode
from penstock.serve.lifecycle.view import ModelView, routes_of, views_of
from penstock.serve.routes import Route


def view(**members: object) -> ModelView:
    return ModelView("m", **members)  # type: ignore[arg-type]


def test_a_view_holds_what_is_wanted_of_each_model() -> None:
    wanted = [
        Wanted("a", "1", WantedMode.LOADED),
        Wanted("a", "2", WantedMode.LAZY),
        Wanted("b", "1", WantedMode.LOADED),
    ]
    views = views_of(wanted, {"a": {"champion": "1"}, "c": {"champion": "1"}})
    assert views == {
        "a": ModelView("a", {"champion": "1"}, frozenset({"1"}), frozenset({"2"})),
        "b": ModelView("b", {}, frozenset({"1"})),
    }


def test_of_a_model_that_is_served_the_champion_is_loaded() -> None:
    served = view(aliases={"champion": "2"}, loaded=frozenset({"1"}))
    assert served.to_load == {"1", "2"}
    assert served.latest == "2"
    assert view(aliases={"champion": "2"}).wanted == frozenset()
    assert view(aliases={"champion": "2"}).latest is None


def test_a_lazy_champion_is_not_loaded_before_it_is_asked_for() -> None:
    lazy = view(aliases={"champion": "2"}, lazy=frozenset({"2"}))
    assert lazy.to_load == frozenset()
    assert lazy.latest == "2"


def test_without_a_champion_the_highest_version_answers() -> None:
    assert view(loaded=frozenset({"1.9", "1.10", "1.2"})).latest == "1.10"


def test_routes_are_versions_and_aliases() -> None:
    served = view(aliases={"champion": "2", "old": "1", "gone": "7"}, loaded=frozenset({"1"}), lazy=frozenset({"3"}))
    assert routes_of(served, "2") == [
        Route("m", "1", "1"),
        Route("m", "2", "2", latest=True),
        Route("m", "3", "3", lazy=True),
        Route("m", "champion", "2"),
        Route("m", "old", "1"),
    ]


def test_the_champion_before_answers_until_its_successor_is_there() -> None:
    served = view(aliases={"champion": "2"}, loaded=frozenset({"2"}))
    routes = routes_of(served, "1")
    assert Route("m", "1", "1", latest=True) in routes
    assert Route("m", "champion", "1") in routes


def test_a_model_of_which_nothing_is_wanted_has_no_routes() -> None:
    assert routes_of(view(aliases={"champion": "1"}), None) == []
