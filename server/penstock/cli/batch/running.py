"""A batch from its input to its output: chunks, some under way at a time, in their order."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import penstock_client
from penstock.cli.batch.answers import CsvText, JsonText, TableText, Writer, codes_of, end_of
from penstock.cli.batch.columnar import columns_module
from penstock.cli.batch.files import Input, opened
from penstock.cli.batch.journal import Mark
from penstock.cli.batch.lines import Chunk, LineChunks
from penstock.cli.batch.output import FileOutput, Output, PipeOutput
from penstock.cli.batch.plain_rows import plain_rows
from penstock.cli.batch.progress import Told
from penstock.cli.served import Served, served_of
from penstock.core.errors import ConfigError, PenstockError
from penstock_client.errors import ClientError
from penstock_client.in_flight import in_order
from penstock_client.problems import CLASSES, UnauthorizedError, VersionNotFoundError

__all__ = ["BatchOptions", "Outcome", "begun_with", "run_batch"]

_LINES = ("ndjson", "csv")
# A worker that died of something else is another one now. One that died of the row would die again.
_DEATHS_MAX = 2
_WAIT_S_MAX = 2.0


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What the command line says."""

    model: str
    version: str | None
    input: str
    output: str
    errors: Path | None
    read_as: str
    write_as: str
    chunk_rows: int
    concurrency: int
    timeout_s: float
    restart: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. `kept` are the rows that an earlier run had answered."""

    version: str
    rows: int
    failed: int
    kept: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Answered:
    """A chunk's answer: lines, or columns."""

    end: int
    lines: bytes = b""
    result: penstock_client.BatchResult | None = None


def begun_with(client: penstock_client.Client, options: BatchOptions) -> Served:
    """Ask about the version that an earlier run has begun with, or about the one that this one is to begin with."""
    version = _begun_version(options)
    try:
        return served_of(client, options.model, options.version if version is None else version)
    except (ClientError, PenstockError) as error:
        if version is None or isinstance(error, UnauthorizedError):
            raise
        said = error.detail if isinstance(error, ClientError) else str(error)
        raise _gone(said, options, version) from error


def _gone(said: str, options: BatchOptions, version: str) -> PenstockError:
    return PenstockError(
        f"{said}; {options.output} was begun with version {version}: load it, or begin anew with --restart"
    )


def _begun_version(options: BatchOptions) -> str | None:
    if options.output == "-" or options.restart or not Path(f"{options.output}.journal").exists():
        return None
    output = FileOutput(Path(options.output), options.errors, options.write_as)
    job = output.journal.job
    output.journal.close()
    return None if job is None or options.version != job["asked"] else str(job["version"])


def run_batch(client: penstock_client.Client, served: Served, options: BatchOptions, told: Told) -> Outcome:
    """Run a batch to its end, or from where it was to its end."""
    began = time.monotonic()
    with closing(opened(options.input)) as file:
        source = None if options.input == "-" else Input.of(file, options.input)
        if source is not None and source.size == 0:
            raise ConfigError(f"{options.input} is empty")
        writer = _writer(served, options)
        was_begun = options.output != "-" and Path(f"{options.output}.journal").exists()
        output = _output(served, options, source, writer)
        kept = output.mark.rows
        try:
            if not output.mark.done:
                _run(client, served, options, file, output, writer, told)
                if source is not None and Input.of(file, options.input) != source:
                    raise PenstockError(f"{options.input} has changed while it was read: begin anew with --restart")
            output.finish()
        except VersionNotFoundError as error:
            if options.version is not None:
                raise
            raise _gone(error.detail, options, served.version) from error
        except KeyboardInterrupt:
            if options.output != "-":
                told.stopped(output.mark)
            raise
        finally:
            # Of what was killed before the first note the version, at least, is known.
            output.close() if was_begun or output.mark.rows or output.mark.done else output.drop()
    mark = output.mark
    return Outcome(served.version, mark.rows, mark.failed, kept, time.monotonic() - began)


def _writer(served: Served, options: BatchOptions) -> Writer:
    apart = options.errors is not None
    if options.write_as == "ndjson":
        return JsonText(apart)
    return CsvText(served.outputs, apart) if options.write_as == "csv" else TableText(served.outputs, apart)


def _output(served: Served, options: BatchOptions, source: Input | None, writer: Writer) -> Output:
    if options.output == "-":
        return PipeOutput(writer.head(), end_of(options.write_as))
    output = FileOutput(Path(options.output), options.errors, options.write_as)
    job = {
        "input": None if source is None else source.document(),
        "model": served.name,
        "asked": options.version,
        "version": served.version,
        "from": options.read_as,
        "to": options.write_as,
        "errors": None if options.errors is None else str(options.errors.absolute()),
        "chunk_rows": options.chunk_rows,
    }
    known = output.journal.job
    try:
        if options.restart or known is None or source is None:
            if not options.restart and output.path.exists():
                raise ConfigError(f"{output.path} is there already: take it away, or replace it with --restart")
            output.begin(job, writer.head())
        else:
            _compare(known, job, options)
            if output.mark == Mark():
                # Nothing is noted: what stands at the beginning of the output need not be there.
                output.begin(job, writer.head())
            else:
                output.go_on()
    except BaseException:
        output.journal.remove() if output.journal.job is None else output.close()
        raise
    return output


def _compare(known: Mapping[str, Any], job: Mapping[str, Any], options: BatchOptions) -> None:
    """PenstockError when the journal is that of another batch."""
    if known == job:
        return
    anew = f"begin anew with --restart, or take another name than {options.output}"
    was, now = known["input"], job["input"]
    if was is not None and was["path"] == now["path"] and was != now:
        raise PenstockError(f"{options.input} has changed since the batch began that {options.output} is of: {anew}")
    named = {"input": "input", "model": "model", "asked": "--version", "version": "version", "from": "--from"}
    named |= {"to": "--to", "errors": "--errors", "chunk_rows": "--chunk-rows"}
    which = next(name for name in named if known.get(name) != job[name])
    before = known[which]["path"] if which == "input" and known[which] else known[which]
    raise PenstockError(f"{options.output} was begun with another {named[which]} ({before}): go on with that, {anew}")


def _run(
    client: penstock_client.Client,
    served: Served,
    options: BatchOptions,
    file: IO[bytes],
    output: Output,
    writer: Writer,
    told: Told,
) -> None:
    chunks, total = _chunks(file, options, output.mark.at)
    ask = _asker(client, served, options, told)
    with told.watching(total, output.mark):
        for answered in in_order(ask, chunks, options.concurrency):
            if answered.result is not None:
                piece = writer.result(answered.result, output.mark.rows)
            else:
                piece = writer.lines(answered.lines, output.mark.rows)
            output.write(piece, answered.end)
            told.saw(output.mark)


def _chunks(file: IO[bytes], options: BatchOptions, start: int) -> tuple[Iterator[Any], int | None]:
    """Return the chunks from `start` on, and what the last one's end will be, if that is known."""
    if options.read_as in _LINES:
        lines = LineChunks(file, csv=options.read_as == "csv", rows_max=options.chunk_rows)  # type: ignore[arg-type]
        size = None if options.input == "-" else Input.of(file, options.input).size
        return lines.chunks(start), size
    columns = columns_module().ColumnChunks(file, options.input, options.read_as, options.chunk_rows)
    return columns.chunks(start), columns.total


def _asker(
    client: penstock_client.Client, served: Served, options: BatchOptions, told: Told
) -> Callable[[Any], _Answered]:
    answer = "csv" if options.write_as == "csv" else "ndjson"

    def lines(chunk: Chunk) -> tuple[_Answered, list[str]]:
        text = client.predict_lines(
            served.name,
            chunk.payload,
            version=served.version,
            form="csv" if options.read_as == "csv" else "ndjson",
            answer="csv" if answer == "csv" else "ndjson",
        )
        return _Answered(chunk.end, lines=text), codes_of(text, answer)

    def columns(chunk: Any) -> tuple[_Answered, list[str]]:
        result = _predicted(client, served, chunk.payload, options.chunk_rows)
        codes = [getattr(error, "code", "") or "model_unavailable" for error in result.errors.values()]
        return _Answered(chunk.end, result=result), codes

    once = lines if options.read_as in _LINES else columns
    return lambda chunk: _until_answered(lambda: once(chunk), options.timeout_s, told)


def _predicted(
    client: penstock_client.Client, served: Served, table: Any, chunk_rows: int
) -> penstock_client.BatchResult:
    """Predict a table as arrays, or row by row where it does not fit into them."""
    rows: Any = table
    if any(column.null_count for column in table.columns):
        rows = plain_rows(served, table)
    try:
        return client.predict_batch(served.name, rows, version=served.version, chunk_rows=chunk_rows, concurrency=1)
    except penstock_client.ArgumentError:
        if rows is not table:
            raise
    rows = plain_rows(served, table)
    return client.predict_batch(served.name, rows, version=served.version, chunk_rows=chunk_rows, concurrency=1)


def _until_answered(ask: Callable[[], tuple[_Answered, list[str]]], timeout_s: float, told: Told) -> _Answered:
    """Ask again while rows fail for what has nothing to do with them, such as a server that is being replaced."""
    deadline, deaths, wait_s = time.monotonic() + timeout_s, 0, 0.1
    while True:
        answered, codes = ask()
        passing = [code for code in codes if code in CLASSES and CLASSES[code].retryable]
        if "worker_died" in codes and deaths < _DEATHS_MAX:
            deaths += 1
            passing.append("worker_died")
        if not passing or time.monotonic() + wait_s > deadline:
            return answered
        told.again(passing[0])
        time.sleep(random.uniform(0.5, 1.0) * wait_s)
        wait_s = min(2 * wait_s, _WAIT_S_MAX)
