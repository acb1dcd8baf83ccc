"""`penstock batch --keep` is killed, and goes on to the same bytes; with other columns it does not."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.integration.asked_models import serve_models
from tests.integration.test_cli_batch_resume import kill_when_noted, noted, run, under_way
from tests.serving import Server

ROWS = 12_000
SLOWLY = ("--chunk-rows", "16", "--concurrency", "2")
COLUMNS = ("--keep", "name,id", "--drop", "target")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


def write_rows(folder: Path, form: str) -> None:
    """Write rows of which every thousandth has no age, with names that have commas, quotes and line ends."""
    names = [f'{"a" * (n % 9)}, "{n}"' + ("\n" if n % 7 == 0 else "") for n in range(ROWS)]
    if form == "parquet":
        table = {
            "id": pa.array(range(ROWS), pa.uint16()),
            "name": pa.array(names),
            "target": [None] * ROWS,
            "age": pa.array([n if n % 1000 else None for n in range(ROWS)], pa.int64()),
            "income": [float(n) for n in range(ROWS)],
        }
        pyarrow.parquet.write_table(pa.table(table), folder / "rows.parquet", row_group_size=999)
        return
    with (folder / f"rows.{form}").open("w", newline="") as file:
        if form == "csv":
            file.write("id,name,target,age,income\n")
        for n, name in enumerate(names):
            age = n if n % 1000 else "x"
            if form == "csv":
                quoted = name.replace('"', '""')
                file.write(f'{n:07},"{quoted}",t,{age},{n}.5\n')
            else:
                row = {"id": f"{n:07}", "name": name, "target": 0, "age": age, "income": n}
                file.write(json.dumps(row) + "\n")


@pytest.mark.parametrize(
    ("read", "to"),
    [("csv", "ndjson"), ("csv", "csv"), ("ndjson", "csv"), ("ndjson", "parquet"), ("parquet", "arrow")],
)
def test_killed_at_random_places(server: Server, tmp_path: Path, read: str, to: str) -> None:
    write_rows(tmp_path, read)
    run(server.url, tmp_path, f"whole.{to}", *SLOWLY, *COLUMNS, "--errors", str(tmp_path / "whole.errors"))
    dice, kills = random.Random(read + to), 0
    more = (*SLOWLY, *COLUMNS, "--errors", str(tmp_path / "killed.errors"))
    kill_when_noted(server.url, tmp_path, f"killed.{to}", *more)
    while kills < 3 and not (tmp_path / f"killed.{to}").exists():
        with under_way(server.url, tmp_path, f"killed.{to}", dice.randrange(1, 60_000), *more) as process:
            if process.poll() is None:
                process.kill()
                kills += 1
    if not (tmp_path / f"killed.{to}").exists():
        assert "of them from before" in run(server.url, tmp_path, f"killed.{to}", *more).stderr
    assert (tmp_path / f"killed.{to}").read_bytes() == (tmp_path / f"whole.{to}").read_bytes()
    assert (tmp_path / "killed.errors").read_bytes() == (tmp_path / "whole.errors").read_bytes()
    bad = [json.loads(line) for line in (tmp_path / "whole.errors").read_text().splitlines()]
    assert [(int(line["id"]), line["row"]) for line in bad] == [(n, n) for n in range(0, ROWS, 1000)]
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {f"rows.{read}", f"whole.{to}", f"killed.{to}", "whole.errors", "killed.errors"}


def test_other_columns_are_refused(server: Server, tmp_path: Path) -> None:
    write_rows(tmp_path, "csv")
    kill_when_noted(server.url, tmp_path, "a.csv", *SLOWLY, *COLUMNS)
    for others, said in (
        (("--keep", "name,id,target"), "a.csv was begun with another --keep (name, id): go on with that, begin anew"),
        (("--keep", "id,name", "--drop", "target"), "another --keep (name, id)"),
        (("--keep", "name,id", "--drop", "target,age"), "--drop age: loan needs that input"),
    ):
        status = 2 if "needs" in said else 1
        assert said in run(server.url, tmp_path, "a.csv", *SLOWLY, *others, status=status).stderr
    assert any(line["rows"] for line in noted(tmp_path, "a.csv"))
    # The same columns, however they are written.
    more = ("--chunk-rows", "16", "--drop", "target", "--keep", "name", "--keep", "id")
    done = json.loads(run(server.url, tmp_path, "a.csv", *more, "--json").stdout)
    assert done["kept"] > 0
    assert done["rows"] == ROWS


def test_a_journal_that_knows_of_no_columns(server: Server, tmp_path: Path) -> None:
    """One of before there were such options goes on without them, and not with them."""
    rows = ({"age": n % 90, "income": n} for n in range(ROWS))
    (tmp_path / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kill_when_noted(server.url, tmp_path, "a.csv", *SLOWLY)
    journal = tmp_path / "a.csv.journal"
    first, *others = journal.read_text().splitlines(keepends=True)
    begun = json.loads(first)
    del begun["job"]["keep"], begun["job"]["drop"]
    journal.write_text("".join(itertools.chain([json.dumps(begun) + "\n"], others)))
    said = run(server.url, tmp_path, "a.csv", *SLOWLY, "--keep", "age").stderr
    assert "a.csv was begun with another --keep (None)" in said
    assert json.loads(run(server.url, tmp_path, "a.csv", *SLOWLY, "--json", status=0).stdout)["kept"] > 0
