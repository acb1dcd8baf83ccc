"""A folder of models is followed: what appears in it is registered and promoted."""

from collections.abc import Callable
from pathlib import Path

from tests.integration.numbered import ROW, times
from tests.integration.registered import BY, Node


def test_a_repository_folder_is_followed(node: Callable[..., Node], folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for number in (1, 2):
        (repository / "m" / str(number)).mkdir(parents=True)
    times(repository / "m" / "1", 1)
    server = node(repository=repository, repository_poll_s=0.05)
    server.until_answering(ROW, "1")
    times(repository / "m" / "2", 2)
    server.until_answering(ROW, "2")


def test_a_rollback_outlives_a_restart_beside_a_repository_folder(node: Callable[..., Node], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for number in (1, 2):
        (repository / "m" / str(number)).mkdir(parents=True)
        times(repository / "m" / str(number), number)
    server = node(repository=repository, repository_poll_s=0.05)
    server.until_answering(ROW, "2")
    server.call(server.lifecycle.rollback("m", by=BY))
    server.stop()
    server = node(repository=repository, repository_poll_s=0.05)
    (repository / "other" / "1").mkdir(parents=True)
    times(repository / "other" / "1", 3)
    server.until_answering(ROW, "1", "other")  # by now it has looked at all of them
    assert server.answering(ROW) == "1"


def test_a_version_that_was_registered_and_not_promoted_is_promoted_later(
    node: Callable[..., Node], tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    (repository / "m" / "1").mkdir(parents=True)
    times(repository / "m" / "1", 1)
    server = node()
    server.register(repository / "m" / "1", "1")  # as a server that is killed leaves it
    server.stop()
    node(repository=repository, repository_poll_s=0.05).until_answering(ROW, "1")
