"""`penstock keys` on a store of its own: the way to the first key."""

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from penstock.core.secrets import without_secrets
from penstock.registry.records import Role
from tests.serving import Server
from tests.unit.test_cli import penstock


@pytest.fixture
def place(tmp_path: Path) -> Mapping[str, str]:
    return {"PENSTOCK_DATA_DIR": str(tmp_path / "data")}


def test_first_key(place: Mapping[str, str], tmp_path: Path) -> None:
    result = penstock("keys", "create", "ci", "--role", "operator", env=place)
    assert result.returncode == 0, result.stderr
    key = result.stdout.strip()
    identity = key.split("_")[1]
    assert result.stdout == f"{key}\n"
    assert key.startswith("psk_")
    assert f"key {identity} for ci, operator, in sqlite:///{tmp_path}/data/penstock.db" in result.stderr
    listed = penstock("keys", "list", env=place)
    assert listed.stdout.splitlines()[0].split() == [
        "ID",
        "NAME",
        "ROLE",
        "CREATED",
        "AT",
        "CREATED",
        "BY",
        "REVOKED",
        "AT",
    ]
    assert listed.stdout.splitlines()[1].split()[:3] == [identity, "ci", "operator"]
    assert key.split("_", 2)[2] not in listed.stdout


def test_secret_is_nowhere_in_the_store(place: Mapping[str, str], tmp_path: Path) -> None:
    key = penstock("keys", "create", "ci", "--role", "admin", env=place).stdout.strip()
    secret = key.split("_", 2)[2]
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert secret.encode() not in kept


@pytest.mark.parametrize("role", list(Role))
def test_json_of_a_new_key(place: Mapping[str, str], role: Role) -> None:
    made = json.loads(penstock("keys", "create", "ci", "--role", role, "--json", env=place).stdout)
    assert made["key"].startswith(f"psk_{made['id']}_")
    assert (made["name"], made["role"], made["revoked_at"]) == ("ci", role, None)
    assert made["created_by"].endswith("(command line)")


def test_revoked_key_stays_in_the_list(place: Mapping[str, str]) -> None:
    made = json.loads(penstock("keys", "create", "ci", "--role", "admin", "--json", env=place).stdout)
    result = penstock("keys", "revoke", made["id"], env=place)
    assert result.stdout == f"key {made['id']} of ci opens nothing any more\n"
    (listed,) = json.loads(penstock("keys", "list", "--json", env=place).stdout)["keys"]
    assert listed["revoked_at"] is not None
    assert set(listed) == set(made) - {"key", "store"}


def test_store_may_be_named_by_file_flag_or_variable(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'keys.db'}"
    file = tmp_path / "penstock.toml"
    file.write_text(f'[server]\nstore = "{store}"\n')
    named = (["--config", str(file)], ["--store", store], [])
    for number, arguments in enumerate(named):
        env = {"PENSTOCK_STORE": store} if not arguments else {}
        result = penstock("keys", "create", f"k{number}", "--role", "predict", *arguments, env=env)
        assert result.returncode == 0, result.stderr
    with closing(sqlite3.connect(tmp_path / "keys.db")) as database:
        assert [name for (name,) in database.execute("SELECT name FROM keys ORDER BY name")] == ["k0", "k1", "k2"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["create", "ci", "--role", "root"], 2, "penstock: --role 'root': expected one of admin, operator, predict\n"),
        (["create", "ci"], 2, "Missing option '--role'"),
        (["create", " ", "--role", "admin"], 1, "penstock: a key needs a name"),
        (["revoke", "none"], 1, "penstock: there is no key 'none'"),
        (["list", "--config", "no.toml"], 2, "penstock: cannot read the configuration file no.toml"),
        (["list", "--store", "mysql://x"], 2, "expected sqlite:///PATH or postgresql://"),
    ],
)
def test_error_is_a_sentence(place: Mapping[str, str], arguments: list[str], status: int, message: str) -> None:
    result = penstock("keys", *arguments, env=place)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_keys_of_a_server_elsewhere(place: Mapping[str, str], tmp_path: Path) -> None:
    admin = penstock("keys", "create", "me", "--role", "admin", env=place).stdout.strip()
    running = Server.start([], tmp_path, place)
    try:
        there = ("--url", running.url)
        with_key = {"PENSTOCK_API_KEY": admin}
        made = json.loads(penstock("keys", "create", "ci", "--role", "predict", *there, "--json", env=with_key).stdout)
        assert (made["name"], made["role"], made["server"]) == ("ci", "predict", running.url)
        printed = penstock("keys", "create", "cd", "--role", "operator", *there, env=with_key)
        assert printed.stdout.startswith("psk_")
        assert f"operator, in {running.url}" in printed.stderr
        revoked = penstock("keys", "revoke", made["id"], *there, env=with_key)
        assert revoked.stdout == f"key {made['id']} of ci opens nothing any more\n"
        listed = json.loads(penstock("keys", "list", "--json", *there, env=with_key).stdout)["keys"]
        in_the_store = json.loads(penstock("keys", "list", "--json", env=place).stdout)["keys"]
        assert [key["id"] for key in listed] == [key["id"] for key in in_the_store]
        refused = penstock("keys", "list", *there)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "put a key into PENSTOCK_API_KEY" in refused.stderr
        wrong = penstock("keys", "create", "x", "--role", "root", *there)
        assert (wrong.returncode, wrong.stderr) == (
            2,
            "penstock: --role 'root': expected one of admin, operator, predict\n",
        )
        both = penstock("keys", "list", *there, "--data-dir", str(tmp_path))
        assert (both.returncode, "leave out --config, --store and --data-dir" in both.stderr) == (2, True)
    finally:
        running.stop()


def test_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = penstock("keys", "list", env={"PENSTOCK_DATA_DIR": str(tmp_path / "file" / "below")})
    assert result.returncode == 1
    assert str(tmp_path) in result.stderr
    assert "Traceback" not in result.stderr


def test_password_of_the_store_is_not_shown() -> None:
    assert without_secrets("postgresql://a:s3cret@db.example/models") == "postgresql://a:***@db.example/models"
    assert without_secrets("sqlite:////var/lib/a@b:c/penstock.db") == "sqlite:////var/lib/a@b:c/penstock.db"
