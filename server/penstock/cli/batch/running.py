"""A batch from its input to its output: chunks, some under way at a time, in their order."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import penstock_client
from penstock.cli.batch.answers import JsonText, TableText, Writer, end_of
from penstock.cli.batch.csv_text import CsvText
from penstock.cli.batch.files import Input, opened
from penstock.cli.batch.options import BatchOptions
from penstock.cli.batch.output import FileOutput, Output, PipeOutput
from penstock.cli.batch.progress import Told
from penstock.cli.batch.reading import Reading, check_names
from penstock.cli.batch.sending import Sending
from penstock.cli.served import Served, served_of
from penstock.core.errors import ConfigError, PenstockError
from penstock_client.errors import ClientError
from penstock_client.in_flight import in_order
from penstock_client.problems import UnauthorizedError, VersionNotFoundError

__all__ = ["Outcome", "begun_with", "run_batch"]

_LINES = ("ndjson", "csv")
# What a batch is, and how that is called.
_NAMED = {
    "input": "input",
    "model": "model",
    "asked": "--version",
    "version": "version",
    "from": "--from",
    "to": "--to",
    "errors": "--errors",
    "chunk_rows": "--chunk-rows",
    "keep": "--keep",
    "drop": "--drop",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch. `kept` are the rows that an earlier run had answered."""

    version: str
    rows: int
    failed: int
    kept: int
    seconds: float


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
    # Where nothing is answered yet, there is nothing that a version would have to go with.
    if job is None or not (output.mark.rows or output.mark.done) or options.version != job["asked"]:
        return None
    return str(job["version"])


def run_batch(client: penstock_client.Client, served: Served, options: BatchOptions, told: Told) -> Outcome:
    """Run a batch to its end, or from where it was to its end."""
    began = time.monotonic()
    with closing(opened(options.input)) as file:
        source = None if options.input == "-" else Input.of(file, options.input)
        if source is not None and source.size == 0:
            raise ConfigError(f"{options.input} is empty")
        check_names(options, served)
        reading = Reading(file, options, served)
        writer = _writer(served, options, reading)
        output = _output(served, options, source, writer)
        kept = output.mark.rows
        try:
            if not output.mark.done:
                _run(_sending(client, served, options, reading, told), reading, options.concurrency, output, writer)
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
            output.close() if output.mark.rows or output.mark.done else output.drop()
    mark = output.mark
    return Outcome(served.version, mark.rows, mark.failed, kept, time.monotonic() - began)


def _writer(served: Served, options: BatchOptions, reading: Reading) -> Writer:
    apart = options.errors is not None
    carried = () if reading.cutter is None else reading.cutter.columns
    if options.write_as == "ndjson":
        return JsonText(apart)
    if options.write_as == "csv":
        return CsvText(served.outputs, apart, [name for name, _ in carried])
    return TableText(served.outputs, apart, options.write_as, carried)


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
        "keep": list(options.choice.keep) or None,
        "drop": sorted(options.choice.drop) or None,
    }
    known = output.journal.job
    try:
        if options.restart or known is None or source is None:
            if not options.restart and output.path.exists():
                raise ConfigError(f"{output.path} is there already: take it away, or replace it with --restart")
            output.begin(job, writer.head())
        elif output.mark.rows == 0 and not output.mark.done:
            # Nothing is kept that would have to go with the rest.
            output.begin(job, writer.head())
        else:
            _compare(known, job, options)
            output.go_on()
    except BaseException:
        output.journal.remove() if output.journal.job is None else output.close()
        raise
    return output


def _compare(known: Mapping[str, Any], job: Mapping[str, Any], options: BatchOptions) -> None:
    """PenstockError when the journal is that of another batch."""
    # What a journal has nothing of was not asked for when it was begun.
    which = next((name for name in _NAMED if known.get(name) != job[name]), None)
    if which is None:
        return
    anew = f"begin anew with --restart, or take another name than {options.output}"
    was, now = known["input"], job["input"]
    if was is not None and was["path"] == now["path"] and was != now:
        raise PenstockError(f"{options.input} has changed since the batch began that {options.output} is of: {anew}")
    before = known[which]["path"] if which == "input" and known[which] else known.get(which)
    if isinstance(before, list):
        before = ", ".join(before)
    raise PenstockError(f"{options.output} was begun with another {_NAMED[which]} ({before}): go on with that, {anew}")


def _sending(
    client: penstock_client.Client, served: Served, options: BatchOptions, reading: Reading, told: Told
) -> Sending:
    return Sending(
        client=client,
        served=served,
        cutter=reading.cutter,
        sent_as=None if options.read_as not in _LINES else "csv" if options.read_as == "csv" else "ndjson",
        answer="csv" if options.write_as == "csv" else "ndjson",
        chunk_rows=options.chunk_rows,
        timeout_s=options.timeout_s,
        told=told,
    )


def _run(sending: Sending, reading: Reading, concurrency: int, output: Output, writer: Writer) -> None:
    with sending.told.watching(reading.total(), output.mark):
        for answered in in_order(sending.ask, reading.chunks(output.mark.at), concurrency):
            if answered.result is not None:
                piece = writer.result(answered.result, output.mark.rows, answered.carried)
            else:
                piece = writer.lines(answered.lines, output.mark.rows, answered.carried)
            output.write(piece, answered.end)
            sending.told.saw(output.mark)
