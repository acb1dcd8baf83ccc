"""AsyncClient: the same calls as coroutines of asyncio."""

# Written from client.py by `make sdk-types`; edit that.

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING

from penstock_client.async_admin import AsyncKeys, AsyncModels
from penstock_client.async_coalescing import AsyncCoalescer
from penstock_client.batches import Batches, BatchResult, Chunk, Progress, Source, Watch, put_together
from penstock_client.core import Call, Core, Priority
from penstock_client.documents import OipServer
from penstock_client.gathering import Gathers
from penstock_client.hooks import Hook
from penstock_client.lines import LineFormat, predicted_lines
from penstock_client.loops import LoopTransport
from penstock_client.opening import settings_for
from penstock_client.predicting import Encoding, Prediction, Predictor
from penstock_client.retrying import Retries
from penstock_client.routes import Routes
from penstock_client.schema import ModelSchema

if TYPE_CHECKING:
    import ssl

__all__ = ["AsyncClient"]


class AsyncClient:
    """Asks a Penstock. Each loop that uses it has connections of its own.

    Args:
        url: Where the server is: http://HOST:PORT, https://HOST:PORT or unix:/PATH. None: PENSTOCK_URL, or else
            http://127.0.0.1:8000.
        key: The key to show. None: PENSTOCK_API_KEY or PENSTOCK_KEY, or none.
        timeout_s: Seconds that a call may take with all its attempts; None is as long as it takes. The server is told,
            and works on nothing that nobody waits for.
        retries: How often a call is tried again that certainly did not run.
        repeatable: Whether predictions may run twice, so that they are sent again also where they may have run.
        connections_max: Connections at a time; further calls wait for one.
        tls: For https; None is Python's usual trust.
        hook: Is told of every call; see penstock_client.opentelemetry.

    Errors are those of penstock_client.errors.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        timeout_s: float | None = 60.0,
        retries: Retries = Retries(),  # noqa: B008 - frozen
        repeatable: bool = False,
        connections_max: int = 64,
        tls: ssl.SSLContext | None = None,
        hook: Hook | None = None,
    ) -> None:
        settings = settings_for(url, key, timeout_s, retries, repeatable, tls, hook, connections_max)
        self._core = Core(settings)
        self._transport = LoopTransport(settings.address, connections_max)
        self._predictor = Predictor(self._core)
        self._batches = Batches(self._core, self._predictor)
        self._routes = Routes(self._core)
        self._run = self._transport.run
        self.models = AsyncModels(self._routes, self._run)
        self.keys = AsyncKeys(self._routes, self._run)

    async def predict(
        self,
        model: str,
        inputs: object,
        *,
        version: str | None = None,
        encoding: Encoding = "auto",
        timeout_s: float | None = None,
        priority: Priority | None = None,
        receipt: bool = False,
        reproducible: bool = False,
        repeatable: bool | None = None,
        request_id: str | None = None,
    ) -> Prediction:
        """Predict one row.

        Args:
            model: Its name.
            inputs: The row: a value for a model of one input, or a dict of values by the inputs' names (a record).
                Values are numbers, strings and lists, or arrays, which travel as their bytes.
            version: One of its versions, or "latest"; None is the one that answers.
            encoding: "auto" is "binary" for arrays and "json" for anything else.
            timeout_s: In place of the client's.
            priority: Which of the model's rows go first; "normal" when nothing is said.
            receipt: Whether to ask how the row fared; it is in the answer's `receipt`.
            reproducible: Have it run so that equal inputs have equal answers, bit for bit.
            repeatable: In place of the client's.
            request_id: In place of one that is made up.
        """
        call = Call(timeout_s, priority, receipt, reproducible, repeatable, request_id)
        return await self._run(self._predictor.predict(model, inputs, version, encoding, call))

    async def predict_batch(
        self,
        model: str,
        rows: object,
        *,
        version: str | None = None,
        encoding: Encoding = "auto",
        chunk_rows: int = 1024,
        concurrency: int = 4,
        progress: Callable[[Progress], object] | None = None,
        timeout_s: float | None = None,
        priority: Priority = "batch",
        repeatable: bool | None = None,
    ) -> BatchResult:
        """Predict many rows. A row that fails fails alone: see the result's `errors`.

        Args:
            model: Its name.
            rows: An iterable of rows, each what predict() takes; an array or a dict of arrays, with the rows in front;
                a data frame of pandas; a table or record batch of Arrow.
            version: One of its versions, or "latest"; None is the one that answers.
            encoding: "auto" is "binary" for arrays and tables and "json" for anything else.
            chunk_rows: Rows of a request at most.
            concurrency: Requests at a time.
            progress: Is called after each chunk.
            timeout_s: Seconds for each chunk, in place of the client's.
            priority: Single rows go before those of class "batch".
            repeatable: In place of the client's.

        What every row would meet is raised, such as a model that is not there, and so is what befalls the first chunk.
        """
        parts = []
        source = Source(rows, encoding, chunk_rows)
        watch = Watch(progress, source.total)
        async for part in self._parts(
            model, source, version, encoding, concurrency, Call(timeout_s, priority, False, False, repeatable)
        ):
            watch.saw(part)
            parts.append(part)
        return put_together(model, parts)

    def iter_batch(
        self,
        model: str,
        rows: object,
        *,
        version: str | None = None,
        encoding: Encoding = "auto",
        chunk_rows: int = 1024,
        concurrency: int = 4,
        timeout_s: float | None = None,
        priority: Priority = "batch",
        repeatable: bool | None = None,
    ) -> AsyncIterator[BatchResult]:
        """Predict as predict_batch() does, and give the parts in their order as they come.

        No more than `concurrency` chunks are held at a time, so the rows may be a generator without an end.
        """
        source = Source(rows, encoding, chunk_rows)
        call = Call(timeout_s, priority, False, False, repeatable)
        return self._parts(model, source, version, encoding, concurrency, call)

    async def predict_lines(
        self,
        model: str,
        lines: bytes,
        *,
        version: str | None = None,
        form: LineFormat = "ndjson",
        answer: LineFormat | None = None,
        timeout_s: float | None = None,
        priority: Priority = "batch",
        repeatable: bool | None = None,
    ) -> bytes:
        """Predict rows that are lines already, and return the lines that answer them; docs/batches.md has both.

        Args:
            model: Its name.
            lines: Whole lines, 512 KiB at most or a single one; of CSV below the header.
            version: One of its versions, or "latest"; None is the one that answers.
            form: What the lines are.
            answer: What the answers shall be; None is the same.
            timeout_s: In place of the client's.
            priority: Single rows go before those of class "batch".
            repeatable: In place of the client's.
        """
        call = Call(timeout_s, priority, False, False, repeatable)
        return await self._run(predicted_lines(self._core, model, lines, form, answer, version, call))

    def _parts(
        self, model: str, source: Source, version: str | None, encoding: Encoding, concurrency: int, call: Call
    ) -> AsyncIterator[BatchResult]:
        from penstock_client.async_in_flight import in_order_awaited  # for batches alone

        async def predict(chunk: Chunk) -> BatchResult:
            return await self._run(self._batches.predict(model, chunk, version, encoding, call))

        return in_order_awaited(predict, source.chunks(), concurrency)

    async def schema(self, model: str, version: str | None = None) -> ModelSchema:
        """Return what a model takes and gives."""
        return await self._run(self._predictor.schema(model, version, Call(), anew=True))

    def coalescer(
        self,
        model: str,
        *,
        version: str | None = None,
        rows_max: int = 64,
        delay_s: float = 0.001,
        timeout_s: float | None = None,
        priority: Priority = "normal",
        repeatable: bool | None = None,
    ) -> AsyncCoalescer:
        """Return what sends single rows together that are predicted at the same time.

        The server makes batches of what all its clients send, so this is worth its delay only where the calls
        themselves are what costs: many at a time, from one process, of small rows.

        Args:
            model: Its name.
            version: One of its versions, or "latest"; None is the one that answers.
            rows_max: Rows of a request at most; it goes out at once when it is full.
            delay_s: How long the first row waits for others.
            timeout_s: Seconds for the request, in place of the client's.
            priority: Which of the model's rows go first.
            repeatable: In place of the client's.
        """
        call = Call(timeout_s, priority, False, False, repeatable)
        return AsyncCoalescer(Gathers(self._batches, model, version, rows_max, delay_s, call), self._run)

    async def live(self) -> bool:
        """Whether the server is there."""
        return await self._run(self._routes.healthy("/health/live"))

    async def ready(self) -> bool:
        """Whether the server is there and its models are loaded."""
        return await self._run(self._routes.healthy("/health/ready"))

    async def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Wait until the server is ready; TimedOutError when it is not by then."""
        await self._run(self._routes.until_ready(timeout_s))

    async def server(self) -> OipServer:
        """Return the server's name, version and extensions."""
        return await self._run(self._routes.get(OipServer, "/v2"))

    async def metrics(self) -> str:
        """Return the server's metrics, as Prometheus reads them."""
        return await self._run(self._routes.text("/metrics"))

    async def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self._core.settings.address.url!r})"
