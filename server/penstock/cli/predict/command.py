"""The command `penstock predict`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli.completing import one_of
from penstock.cli.options import AsJson, Debug, KeyFile, Model, Url
from penstock.cli.plainly import told_plainly

if TYPE_CHECKING:
    import penstock_client
    from penstock.cli.predict.content import Lines, Row
    from penstock.cli.served import Served

__all__ = ["app"]

app = typer.Typer(add_completion=False, rich_markup_mode=None)
_PRIORITIES: tuple[Literal["interactive", "normal", "batch"], ...] = ("interactive", "normal", "batch")


# -1.5 is a value and no option. What else begins with a dash is looked at by _check_words().
@app.command("predict", context_settings={"ignore_unknown_options": True})
def _predict(
    model: Model,
    values: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VALUES]...",
            help="The row: its values, NAME=VALUE for each, JSON, @FILE, or - for standard input.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Take the rows from this file.", show_default=False)
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="It is json, ndjson, csv, image, text or bytes.",
            show_default=False,
            autocompletion=one_of("json", "ndjson", "csv", "image", "text", "bytes"),
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="A version or an alias.", show_default=False)
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, metavar="S", help="Seconds to wait for the answer.")] = 60.0,
    priority: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS",
            help="interactive, normal or batch.",
            show_default=False,
            autocompletion=one_of(*_PRIORITIES),
        ),
    ] = None,
    receipt: Annotated[bool, typer.Option("--receipt", help="Also say how the row fared.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a row that the model would take.")] = False,
    url: Url = None,
    key_file: KeyFile = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Ask a model: penstock predict iris 5.1 3.5 1.4 0.2.

    Many rows are taken, too, from a file or standard input: a list in JSON, NDJSON or CSV. Exits with 1 when a row
    fails.
    """
    with told_plainly(debug):
        from penstock.cli.asking import client_of
        from penstock.cli.served import served_of

        _check_words(values or [])
        client = client_of(url, key_file, timeout_s=timeout)
        served = served_of(client, model, version)
        if example:
            typer.echo(json.dumps(served.example(), ensure_ascii=False))
            failed = 0
        else:
            rows = _rows(served, values or [], file, form)
            failed = _answer(client, served, version, rows, priority, receipt, as_json)
    if failed:
        raise typer.Exit(1)


def _check_words(words: list[str]) -> None:
    from penstock.core.errors import ConfigError

    for word in words if "--" not in sys.argv else ():
        if word.startswith("-") and word != "-" and not _is_number(word):
            raise ConfigError(f"there is no option {word}; a value that begins with a dash stands behind --")


def _is_number(word: str) -> bool:
    try:
        float(word.split(",", 1)[0])
    except ValueError:
        return False
    return True


def _rows(served: Served, words: list[str], file: str | None, form: str | None) -> Row | Lines:
    from penstock.cli.predict.content import FORMATS, Row, read_content, rows_of
    from penstock.cli.predict.words import row_of_words, usage
    from penstock.core.errors import ConfigError

    if form is not None and form not in FORMATS:
        raise ConfigError(f"--format {form!r}: expected one of {', '.join(FORMATS)}")
    if len(words) == 1 and (words[0] == "-" or (words[0].startswith("@") and not words[0].startswith("@@"))):
        if file is not None:
            raise ConfigError(f"{words[0]} and --file are two places that the rows come from: take one")
        file, words = words[0].removeprefix("@"), []
    if file is not None:
        if words:
            raise ConfigError("values are given, and --file: take one of them")
        return rows_of(served, file, read_content(file), form)
    if form is not None:
        raise ConfigError("--format is about a file: name one with @FILE or --file")
    if not words:
        raise usage(served, "what to predict is missing: values, @FILE, or - for standard input")
    return Row(row_of_words(served, words))


def _answer(
    client: penstock_client.Client,
    served: Served,
    version: str | None,
    rows: Row | Lines,
    priority: str | None,
    receipt: bool,
    as_json: bool,
) -> int:
    from penstock.cli.predict.content import Row
    from penstock.cli.predict.printing import print_one, print_rows
    from penstock.core.errors import ConfigError
    from penstock_client.problems import InvalidInputError

    first = next((each for each in _PRIORITIES if each == priority), None)
    if priority is not None and first is None:
        raise ConfigError(f"--priority {priority!r}: expected one of {', '.join(_PRIORITIES)}")
    try:
        if isinstance(rows, Row):
            answer = client.predict(served.name, rows.inputs, version=version, priority=first, receipt=receipt)
            print_one(answer, as_json)
            return 0
        if receipt:
            raise ConfigError("a receipt is of one row, and these are several")
        return print_rows(_answers(client, served, version, rows, first or "normal"), as_json)
    except InvalidInputError as error:
        raise _refused(served, error) from error


def _answers(
    client: penstock_client.Client,
    served: Served,
    version: str | None,
    rows: Lines,
    priority: Literal["interactive", "normal", "batch"],
) -> Iterator[Any]:
    import io

    from penstock.cli.batch.answers import JsonText
    from penstock.cli.batch.lines import LineChunks

    text, first = JsonText(apart=False), 0
    for chunk in LineChunks(io.BytesIO(rows.text), csv=rows.csv).chunks(0):
        answer = client.predict_lines(
            served.name,
            chunk.payload,
            version=version,
            form="csv" if rows.csv else "ndjson",
            answer="ndjson",
            priority=priority,
        )
        piece = text.lines(answer, first)
        first += piece.rows
        for line in piece.output.splitlines():
            yield json.loads(line)


def _refused(served: Served, error: penstock_client.RefusedError) -> Exception:
    from penstock.core.errors import PenstockError

    text = f"{error.detail} ({error.code})"
    return PenstockError(f"{text}\n  {served.name} takes {served.takes()}; for example:\n  {served.call()}")
