"""Arrow and Parquet: record batches in, rows through the fast path, record batches (or lines) out.

Run as a process: a line of JSON on standard input says what to do, behind it comes the body. The answer goes to
standard output, behind a line of JSON that says whether there is one. With what is beside it the one door to pyarrow.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any

from penstock.core.errors import RequestError
from penstock.jobs.fast_path import FastPath

if TYPE_CHECKING:
    from penstock.jobs.answers import Answer, Writer

__all__ = ["main"]

_BATCHES_UNDER_WAY = 4
# Of the process: what a file unpacks to is for its sender to say.
_MEMORY_BYTES_MAX = 4 << 30
# Of a file of Parquet, which is on disk while it is read.
_SPOOL_BYTES_MAX = 4 << 30
_PIECE_BYTES = 1 << 20
# Of a record batch; more than those have a bit each at least.
_ROWS_WITHOUT_BYTES_MAX = 1 << 16
# Of a file at a time.
_PARQUET_ROWS = 8192
_PARQUET = b"PAR1"

_Json = dict[str, Any]


def main() -> None:
    """Do what standard input says; exit with 0 when the answer is complete."""
    body, answer = sys.stdin.buffer, sys.stdout.buffer
    order: _Json = json.loads(body.readline())
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SPOOL_BYTES_MAX, _SPOOL_BYTES_MAX))
    status = 1
    try:
        _Job(order, answer).run(body)
        status = 0
    except BrokenPipeError:
        pass  # nobody wants the answer any more
    # Threads that still wait for a reply would hold the process up.
    os._exit(status)


class _Job:
    def __init__(self, order: _Json, answer: IO[bytes]) -> None:
        self._order = order
        self._answer = answer
        self._began = False

    def run(self, body: IO[bytes]) -> None:
        try:
            self._run(body)
            self._answer.flush()
        except RequestError as error:
            self._fail(error)
        except MemoryError:
            self._fail(RequestError("body_too_large", "a batch of the file takes more memory than there is for one"))

    def _run(self, body: IO[bytes]) -> None:
        try:
            import pyarrow
        except ImportError:
            raise RequestError(
                "unsupported_media_type",
                "this server reads neither Arrow nor Parquet: pip install 'penstock[arrow]', or send "
                "application/x-ndjson",
            ) from None
        try:
            batches = _parquet(body, self._order["spool"]) if self._order["format"] == "parquet" else _stream(body)
            self._predict(batches)
        except pyarrow.ArrowMemoryError:
            raise MemoryError from None
        except (pyarrow.ArrowException, OSError, EOFError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise RequestError("malformed_body", f"not {self._order['format']}: {reason}") from None
        except (ValueError, OverflowError) as error:
            # Values that Arrow has and Python has not, such as dates of another aeon.
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise RequestError("malformed_body", f"a value that cannot be read: {reason}") from None

    def _predict(self, batches: Iterator[Any]) -> None:
        # They load Arrow, which is not there on every server.
        from penstock.jobs.answers import writer_of
        from penstock.jobs.batches import Model, parts_of, run
        from penstock.jobs.dense import Layout, fields_of

        order = self._order
        model = Model(
            order["inputs"],
            order["outputs"],
            order["rows_target"],
            order["tensors_target"],
            order["rows_max"],
            order["answer"] == "arrow",
            frozenset(order["optional"]),
            frozenset(order["nullable"]),
        )
        fast_path = FastPath(order["socket"], order["headers"])
        writer = writer_of(order["answer"], self._answer, model.outputs)
        under_way: deque[Future[tuple[Answer, RequestError | None]]] = deque()
        first = 0
        with ThreadPoolExecutor(_BATCHES_UNDER_WAY) as threads:
            for batch in batches:
                _check_rows(batch)
                batch.validate(full=True)  # or its offsets could lead anywhere
                if order["record"]:
                    batch = fields_of(batch, model.inputs)
                for part in parts_of(batch, Layout(model.given(batch.schema.names), batch.schema.names), model):
                    under_way.append(threads.submit(run, fast_path, model, part))
                    while under_way and (len(under_way) == _BATCHES_UNDER_WAY or under_way[0].done()):
                        first += self._write(writer, *under_way.popleft().result(), first)
            while under_way:
                first += self._write(writer, *under_way.popleft().result(), first)
            if not self._began:
                self._begin(writer)
            writer.end()

    def _write(self, writer: Writer, answer: Answer, refusal: RequestError | None, first: int) -> int:
        if refusal is not None and not self._began:
            raise refusal
        if not self._began:
            self._begin(writer)
        writer.write(answer, first)
        self._answer.flush()
        return answer.rows

    def _begin(self, writer: Writer) -> None:
        self._began = True
        self._answer.write(json.dumps({"media_type": writer.media_type}).encode() + b"\n")
        writer.begin()

    def _fail(self, error: RequestError) -> None:
        """Say what is wrong, where that is still possible; else the answer ends without its end."""
        if self._began:
            sys.stderr.write(f"{error.code}: {error.detail}\n")
            self._answer.flush()
            os._exit(1)
        self._answer.write(json.dumps({"code": error.code, "detail": error.detail}).encode() + b"\n")
        self._answer.flush()


def _check_rows(batch: Any) -> None:
    """Refuse rows without bytes: nulls alone have no length but the one that they claim."""
    if batch.num_rows > _ROWS_WITHOUT_BYTES_MAX + 8 * batch.get_total_buffer_size():
        raise RequestError(
            "invalid_input", f"a record batch claims {batch.num_rows} rows and holds less than a bit for each"
        )


def _stream(body: IO[bytes]) -> Iterator[Any]:
    import pyarrow.ipc

    with pyarrow.ipc.open_stream(body) as reader:
        yield from reader


def _parquet(body: IO[bytes], folder: str) -> Iterator[Any]:
    """Yield the batches of a file, whose footer comes last: so all of it is written to disk first."""
    import pyarrow.parquet

    with tempfile.TemporaryFile(dir=folder, prefix="spool-") as file:
        if (beginning := body.read(len(_PARQUET))) != _PARQUET:
            raise RequestError("malformed_body", f"not parquet: it begins with {beginning!r}")
        try:
            file.write(beginning)
            shutil.copyfileobj(body, file, _PIECE_BYTES)
            file.seek(0)
        except OSError as error:
            raise _not_spooled(error) from None
        yield from pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=_PARQUET_ROWS)


def _not_spooled(error: OSError) -> RequestError | OSError:
    if error.errno == errno.EFBIG:
        return RequestError(
            "body_too_large", f"a file of Parquet may have {_SPOOL_BYTES_MAX >> 30} GiB; send Arrow, or several files"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return RequestError("memory_exhausted", "there is no room on disk for the file at the moment; try again")
    return error


if __name__ == "__main__":
    main()
