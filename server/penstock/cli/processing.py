"""`penstock fit` and `penstock transform`: plans learned from tables, and tables through plans."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.options import AsJson, Debug
from penstock.cli.plainly import told_plainly, warn
from penstock.core.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from penstock.processing.plan import Plan
    from penstock.processing.record import Record
    from penstock.processing.slots import Table
    from penstock.processing.steps.step import UnlearnedError

__all__ = ["app", "plan_at", "write_plan"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)

_Table = Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv or .parquet file.", show_default=False)]


@app.command("fit")
def _fit(
    plan: Annotated[
        Path,
        typer.Argument(metavar="PLAN", help="A plan, .toml or .json; or a transformer, .skops.", show_default=False),
    ],
    table: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="What to learn from, .csv or .parquet.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write the plan.")] = Path(
        "processing.json"
    ),
    target: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What target encoding learns the means of.", show_default=False)
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="TYPE", help="Of a .skops file, beside what skops trusts.", show_default=False),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(metavar="A,B,C", help="Of a .skops file's columns, if it has none.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Learn the numbers that a plan leaves out from a table, or read them from a fitted scikit-learn transformer."""
    with told_plainly(debug, status=2):
        if plan.suffix == ".skops":
            if table is not None:
                raise ConfigError(f"{plan} is fitted already: leave {table} out")
            columns = [name.strip() for name in names.split(",")] if names is not None else []
            _tell(_import(plan, trust or [], columns, output), as_json)
        elif names is not None:
            raise ConfigError("--names are those of a transformer's columns, .skops: a plan names its fields itself")
        else:
            _tell(_learn(plan, table, target, output), as_json)


@app.command("transform")
def _transform(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A plan, or a folder that has one.", show_default=False)],
    table: _Table,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help=".npy, .npz, .csv or .parquet.")
    ] = Path("features.npy"),
    dtype: Annotated[str, typer.Option(metavar="DTYPE", help="Of the model's input.")] = "float32",
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write what a model is given for the rows of a table: the same bytes as when it is served."""
    with told_plainly(debug, status=2):
        _tell(_through(plan, table, dtype, output), as_json)


@dataclass(frozen=True, slots=True)
class _Written:
    """What was written; None is what does not apply."""

    output: str
    fields: int | None = None
    columns: int | None = None
    rows: int | None = None
    source: str | None = None


def _tell(written: _Written, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({name: value for name, value in asdict(written).items() if value is not None}))
        return
    parts = [f"{written.fields} fields"] if written.fields is not None else []
    if written.rows is not None and written.fields is None:
        parts.append(f"{written.rows} rows")
    parts.append(f"{written.columns} columns" if written.columns is not None else "nothing to be learned")
    if written.fields is not None and written.rows is not None:
        parts.append(f"learned from {written.rows} rows")
    if written.source is not None:
        parts.append(f"from {written.source}")
    typer.echo(f"{written.output}: {', '.join(parts)}")


def _learn(plan: Path, table: Path | None, target: str | None, output: Path) -> _Written:
    """Learn what a plan leaves out from a table, if it leaves out anything, and write it."""
    from penstock.processing.fit import fit, given_numbers
    from penstock.processing.offline import inputs_of, learnable
    from penstock.processing.plan import read_plan
    from penstock.processing.record_class import schema_of_class
    from penstock.processing.slots import slots_of, texts_of
    from penstock.processing.tables import read_table, target_of

    read = read_plan(plan_at(plan), schema_of_class)
    _check_output(output)
    given = given_numbers(read)
    if table is None:
        return _complete(read, output)
    if _unlearned(read) is None:
        raise ConfigError(_nothing_left(read.file, table, learns=bool(given)))
    if given:
        warn(f"{read.file} gives numbers, which {table} does not change: {', '.join(given)}")
    record = learnable(read)
    values = read_table(table, record)
    with _faults_told(table, record, values):
        slots, texts = slots_of(record, values), texts_of(record, values)
    goal = None if target is None else target_of(table, values, target)
    learned = fit(read, slots, goal, texts)
    write_plan(learned, output)
    widths = sum(shape[0] for _, _, shape in inputs_of(learned))
    return _Written(str(output), len(record.fields), widths, len(slots))


def _nothing_left(plan: Path, table: Path, *, learns: bool) -> str:
    if not learns:
        return f"{plan}: no step of it learns, so there is nothing that {table} could teach: leave it out"
    return (
        f"{plan}: nothing is left to be learned from {table}: every number is given. Fit the plan that leaves them "
        "out, which it was made from, or take them out of it"
    )


@contextmanager
def _faults_told(file: Path, record: Record, table: Table) -> Iterator[None]:
    """Tell where in the file rows are no records, and the faults of many of them."""
    from penstock.processing.faults import faults_of, place_of_row, told
    from penstock.processing.unfit import UnfitFeatureError

    try:
        yield
    except UnfitFeatureError as error:
        raise ConfigError(f"{file}: {place_of_row(file, error.row)}: {error.detail}") from error
    except RequestError as error:
        faults = faults_of(record, table)
        raise ConfigError(told(file, table, faults) if faults else f"{file}: {error}") from error


def _unlearned(plan: Plan) -> UnlearnedError | None:
    """Return what is said of the first number that is still to be learned."""
    from penstock.processing.program import check_learned
    from penstock.processing.steps.step import UnlearnedError

    try:
        check_learned(plan)
    except UnlearnedError as error:
        return error
    return None


def _complete(plan: Plan, output: Path) -> _Written:
    """Write a plan of which nothing is to be learned."""
    error = _unlearned(plan)
    if error is not None:
        raise ConfigError(f"{error}; name a table to learn from, behind the plan") from error
    write_plan(plan, output)
    return _Written(str(output), len(plan.record.fields) if plan.record else 0)


def _import(file: Path, trusted: list[str], names: list[str], output: Path) -> _Written:
    """Write the plan that a fitted scikit-learn transformer in a skops file is."""
    from penstock.processing.imported import import_fitted, with_nulls
    from penstock.processing.offline import inputs_of
    from penstock.worker.backends import LoadOptions
    from penstock.worker.backends.sklearn import UntrustedTypesError, open_estimator

    _check_output(output)
    try:
        transformer = open_estimator(file, LoadOptions(trusted_types=trusted))
    except UntrustedTypesError as error:
        raise ConfigError(f"{error.doubt}add {' '.join(f'--trust {name}' for name in error.types)}") from error
    plan = import_fitted(transformer, names)
    write_plan(plan, output)
    if nulls := with_nulls(plan):
        warn(
            f"null goes through {output} to the model as NaN in {', '.join(nulls)}: take null out of their types there "
            "if the model takes none"
        )
    assert plan.record is not None
    widths = sum(shape[0] for _, _, shape in inputs_of(plan))
    return _Written(str(output), len(plan.record.fields), widths, source=str(file))


def _through(plan: Path, table: Path, dtype: str, output: Path) -> _Written:
    """Write what a model would be given for the rows of a table."""
    from penstock.processing.offline import inputs_of, learnable, transform
    from penstock.processing.plan import read_plan
    from penstock.processing.program import MATRIX_DTYPES
    from penstock.processing.tables import read_table, write_table

    if dtype not in MATRIX_DTYPES:
        raise ConfigError(f"--dtype is {dtype!r}: it can be {', '.join(MATRIX_DTYPES)}")
    read = read_plan(plan_at(plan))
    record = learnable(read)
    values = read_table(table, record)
    model = inputs_of(read, dtype)
    with _faults_told(table, record, values):
        matrices = transform(read, values, model)
    write_table(output, matrices)
    rows = len(next(iter(matrices.values()))[1])
    return _Written(str(output), columns=sum(len(names) for names, _ in matrices.values()), rows=rows)


def plan_at(path: Path) -> Path:
    """Return the plan itself, or that of a folder or model; ConfigError when there is none."""
    from penstock.processing.plan_files import find_plan

    if path.suffix in (".json", ".toml") and not path.is_dir():
        return path
    file = find_plan(path)
    if file is None:
        raise ConfigError(f"there is no plan at {path}: name processing.json, or a model's folder that has one")
    return file


def _check_output(output: Path) -> None:
    if output.suffix != ".json":
        raise ConfigError(f"{output}: a plan is written as .json: say -o {output.stem or 'processing'}.json")


def write_plan(plan: Plan, output: Path) -> None:
    """Write a plan, all of it or nothing; ConfigError when that cannot be done."""
    _check_output(output)
    try:
        text = json.dumps(plan.document(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        raise ConfigError(f"{_endless(plan)} is not finite: look for infinite or huge values in its column") from None
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_text(text, "utf-8")
        partial.replace(output)
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error


def _endless(plan: Plan) -> str:
    for feature in plan.features:
        for step in feature.steps:
            try:
                json.dumps(step.members(), allow_nan=False)
            except ValueError:
                return f"what {next(iter(step.members()))} of {feature.name!r} has learned"
    return "a number of the plan"
