"""The input of a batch as chunks, and which of its columns go where."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import IO, Any

from penstock.cli.batch.carried import Cutter
from penstock.cli.batch.choice import check_choice, is_closed, is_input, places_of, unknown_columns
from penstock.cli.batch.columnar import columns_module, table_module
from penstock.cli.batch.csv_cut import CsvCutter, columns_of_header
from penstock.cli.batch.csv_text import csv_columns
from penstock.cli.batch.files import Input
from penstock.cli.batch.json_cut import JsonCutter, first_look
from penstock.cli.batch.lines import LineChunks
from penstock.cli.batch.options import BatchOptions
from penstock.cli.plainly import warn
from penstock.cli.served import Served

__all__ = ["Reading", "check_names"]

_ERROR_MEMBERS = ("row", "code", "status", "detail", "errors")


class Reading:
    """An input that is open. `cutter` takes out of its chunks what is not sent; None where all of it is.

    ConfigError when its columns are not those of the model, or cannot be written.
    """

    def __init__(self, file: IO[bytes], options: BatchOptions, served: Served) -> None:
        self._file = file
        self._name, self._form, self._choice = options.input, options.read_as, options.choice
        self._served = served
        self._called = "standard input" if self._name == "-" else self._name
        self._chunks: Any
        if self._form in ("ndjson", "csv"):
            self._chunks = LineChunks(file, csv=self._form == "csv", rows_max=options.chunk_rows)  # type: ignore[arg-type]
        else:
            self._chunks = columns_module().ColumnChunks(file, self._name, self._form, options.chunk_rows)
        self.cutter = self._cutter(texts=options.write_as != "csv")

    def _cutter(self, *, texts: bool) -> Cutter | None:
        choice, served = self._choice, self._served
        if self._form == "ndjson":
            sent = frozenset(name for name in choice.keep if is_input(served, name))
            return JsonCutter(choice, sent) if choice else None
        if self._form == "csv":
            header = self._chunks.header
            if not header.strip() and not choice:
                return None  # the server says what is missing
            columns = columns_of_header(header, self._called)
            places = places_of(columns, choice, served, self._called, closed=True)
            return CsvCutter(header, places, texts=texts) if choice else None
        schema = self._chunks.schema
        places = places_of(schema.names, choice, served, self._called, closed=is_closed(served))
        return table_module().TableCutter(schema, places) if choice else None

    def total(self) -> int | None:
        """Return what the last chunk's end will be, if that is known."""
        if self._form not in ("ndjson", "csv"):
            total: int | None = self._chunks.total
            return total
        return None if self._name == "-" else Input.of(self._file, self._name).size

    def chunks(self, start: int) -> Iterator[Any]:
        """Give the chunks from `start` on."""
        for number, chunk in enumerate(self._chunks.chunks(start)):
            if number == 0 and start == 0 and self._form == "ndjson":
                self._look(chunk.payload)
            yield chunk

    def _look(self, payload: bytes) -> None:
        """Look at the first lines, which are what lines have in the place of a header."""
        common, seen = first_look(payload)
        missing = [name for name in (*self._choice.keep, *self._choice.drop) if name not in seen]
        if missing and seen:
            warn(f"{self._called}: none of the first rows has a member {missing[0]!r}, which is kept or dropped")
        sent = [name for name in common if name not in self._choice.keep and name not in self._choice.drop]
        known = [name for name in sent if is_input(self._served, name)]
        if known and len(known) < len(sent) and is_closed(self._served):
            unknown = [name for name in sent if name not in known]
            raise unknown_columns(unknown, sent, self._served, self._called)


def check_names(options: BatchOptions, served: Served) -> None:
    """ConfigError when what is kept or dropped must not be."""
    check_choice(options.choice, served, _own_names(served, options.write_as, options.errors is not None))


def _own_names(served: Served, write_as: str, apart: bool) -> Mapping[str, str]:
    """Return what has a name of its own in the output, and what it is."""
    lines = dict.fromkeys(_ERROR_MEMBERS, "a member of every line of --errors") if apart else {}
    if write_as == "ndjson":
        return {**lines, **dict.fromkeys(("outputs", "error"), "a member of every line of the output")}
    own = {} if apart else {"error": "the output's column of errors"}
    for tensor in served.outputs:
        names = csv_columns(tensor) if write_as == "csv" else [tensor.name]
        own |= dict.fromkeys(names, "a column of the output (not so with --to ndjson, where outputs stand apart)")
    return {**lines, **own}
