from collections.abc import Sequence
from typing import Any

# Name, NumPy dtype name, row shape without the batch dimension. A first extent of None varies from row to row.
Tensor = tuple[str, str, tuple[int | None, ...]]
# Fields and objects of a record: see penstock/processing/described.py.
RecordField = tuple[
    list[str],
    str,
    bool,
    bool,
    bool,
    bool,
    float,
    bool,
    float,
    bool,
    list[str | bool | float],
    str | bool | float | None,
]
RecordObject = tuple[list[str], bool, bool]

def json_rows(text: bytes, last: bool, rows_max: int) -> tuple[bytes, bytes, int, list[tuple[int, str]]]: ...
def csv_rows(
    text: bytes,
    last: bool,
    rows_max: int,
    prefixes: Sequence[str],
    suffix: str,
    kinds: Sequence[str],
    blanks: Sequence[str],
) -> tuple[bytes, bytes, int, list[tuple[int, str]]]: ...
def csv_record(text: bytes, last: bool) -> tuple[list[str], int] | None: ...
def json_answers(reply: bytes, rows: int, first: int, faults: Sequence[tuple[int, str, int, str]]) -> bytes: ...
def csv_answers(
    reply: bytes,
    rows: int,
    first: int,
    faults: Sequence[tuple[int, str, int, str]],
    outputs: Sequence[tuple[str, int]],
) -> bytes: ...

class BodyDecoder:
    """Decompresses one body of gzip or zstd as it comes. From one thread at a time."""

    def __init__(self, coding: str) -> None: ...
    def decode(self, piece: bytes, begin: int, bytes_max: int) -> tuple[bytes, int, str]:
        """What `piece` from `begin` on becomes, up to 1 MiB; how much of it that took; and what follows: 'full' (call
        again with the rest), 'cut' (more must come), 'done' (more may come), or what is wrong: 'damaged', 'foreign',
        'window', 'memory'.
        """

class BodyEncoder:
    """Compresses one body with gzip or zstd as it is made. From one thread at a time."""

    def __init__(self, coding: str) -> None: ...
    def encode(self, piece: bytes, last: bool) -> bytes:
        """All of the piece, readable at the other end; with `last` the end of the body."""

TAP_RECORD_BYTES: int

class SpanEncoder:
    """Makes OTLP of what drain_tap() takes. One thread."""

    def __init__(self, resource: Sequence[tuple[str, str]], version: str) -> None: ...
    def encode(self, records: bytes) -> bytes:
        """An ExportTraceServiceRequest with the spans of the records. ValueError for half of one."""

def has_http2() -> bool:
    """Whether HTTP/2, and gRPC with it, were built."""

def has_tls() -> bool:
    """Whether TLS was built."""

def codings_taken() -> str:
    """Content codings that were built, as Accept-Encoding lists them."""

class RecordReader:
    """Reads records as the data plane does: of those that have slots and nothing else. One thread."""

    def __init__(self, record: tuple[Sequence[RecordField], Sequence[RecordObject]]) -> None: ...
    def read(self, body: bytes, is_msgpack: bool = False) -> tuple[list[float] | None, str, list[tuple[str, str, str]]]:
        """Return the slots of a request body's record, or None, the code of the problem, and what is wrong with each
        field (field, rule, detail).
        """

class Engine:
    """The data plane: public sockets, I/O loops, rings. Its threads never take the GIL."""

    def __init__(
        self,
        *,
        io_threads: int = 1,
        decode_threads: int = 1,
        max_connections: int = 4096,
        reserved_connections: int = 32,
        head_bytes_max: int = 8192,
        control_body_bytes_max: int = 16777216,
        body_pool_bytes: int = 134217728,
        idle_timeout_ms: int = 75000,
        head_timeout_ms: int = 10000,
        body_timeout_ms: int = 30000,
        write_timeout_ms: int = 30000,
        request_timeout_ms: int = 60000,
        cache_bytes: int = 67108864,
        control_socket: str = "",
        cors_origins: Sequence[str] = [],
        compress: bool = False,
        compress_min_bytes: int = 1024,
        trace_sample: float | None = None,
        access_log_sample: float | None = None,
        second_level_timeout_ms: int = 0,
    ) -> None: ...
    def listen_tcp(self, host: str, port: int) -> int:
        """Bind and listen; the port that was bound. OSError when it is taken. Before start()."""
    def listen_unix(self, path: str) -> None: ...
    def listen_private(self, path: str) -> None: ...
    def start(self) -> None: ...
    def add_ring(
        self,
        model: str,
        version: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        max_batch_size: int = 64,
        max_queue_delay_us: int = 0,
        queue_bytes: int = 67108864,
        rerun_on_worker_death: bool = False,
        slo_ms: float = 0.0,
        weight: int = 100,
        batch_sizes: Sequence[int] = [],
        reproducible_batch_size: int = 1,
        group: str = "",
        lengths: Sequence[int] = [],
        max_batch_tokens: int = 0,
        string_bytes_max: int = 0,
        cache_ttl_s: int = 0,
        cache_fingerprint: bytes = b"",
        record: tuple[Sequence[RecordField], Sequence[RecordObject]] | None = None,
        input_rooms: Sequence[tuple[str, int]] = [],
    ) -> int:
        """Make the ring of a model version; its id. ValueError for a schema that no ring can hold. Any thread.

        slo_ms: latency objective, 0 for none. weight: share of the workers against other rings of the group, whose
        rings share workers; a ring without a group has its own. batch_sizes: those that the model may run, ascending,
        at most 16; none for any. lengths: length buckets of tensors that vary, ascending, at most 16, the last one the
        longest. max_batch_tokens: rows times bucket length of a batch; 0 for no bound.
        string_bytes_max: room for all strings of a tensor of a row together; 0 for 64 bytes each, at least 1024.
        input_rooms: other rooms than that, by the names of inputs.
        cache_ttl_s: how long answers are kept for equal inputs; 0: not at all.
        cache_fingerprint: 32 bytes that stand for all that they depend on, where other servers share them; else none.
        """
    def ring_fd(self, ring: int) -> int:
        """The ring's memfd, owned by the engine: send it to a worker, do not close it."""
    def ring_max_batch_size(self, ring: int) -> int:
        """What max_batch_size became after queue_bytes was honoured."""
    def seed_cost(self, ring: int, samples: Sequence[tuple[int, float]], bucket: int = 0) -> None:
        """Tell what batches of a length bucket cost in warm-up: (rows, seconds) each, several of each size."""
    def cost(self, ring: int, bucket: int = 0) -> dict[str, Any]:
        """What batches of a length bucket cost, as far as it is known.

        {'rows', 'mean_seconds', 'p99_seconds', 'fixed_seconds', 'per_row_seconds', 'samples', 'error_p95', 'off_share',
        'alarm'}: the first three are lists, a curve; the next two are the line a + c b that fits it.
        """
    def set_workers(self, ring: int, count: int) -> None:
        """Tell admission how many workers take from the ring; without it, as many count as have attached it."""
    def quarantined(self, ring: int) -> int:
        """How many blocks wait for a worker in quarantine, or are with one."""
    def loop_event_fds(self) -> list[int]: ...
    def recover(self, ring: int, worker: int) -> dict[str, Any]:
        """A worker is dead: run its batches again or fail them.

        {'batches_requeued', 'blocks_quarantined', 'batches_failed', 'rows_failed', 'corrupt'}.
        """
    def fail_quarantined(self, ring: int) -> None:
        """Rows that wait for a worker in quarantine get an error: there will be none."""
    def close_ring(self, ring: int) -> None:
        """The ring's workers have ended and there will be no others: rows that are out get an error."""
    def set_mirror(self, ring: int, shadow_ring: int, *, share: float, rtol: float, atol: float) -> None:
        """Have every 1 / share-th row of a ring run by another ring, too, and compare the outputs. Any thread.

        Floats are the same when |shadow - live| <= atol + rtol * |live| or both are NaN, all else when it is equal. The
        shadow answers nobody: what it has no room for is dropped, and so are rows in the arena and those with more than
        64 KiB of outputs. ValueError when the tensors of the two differ. Takes the place of the ring's earlier mirror.
        """
    def mirror(self, ring: int) -> dict[str, Any]:
        """What came out of set_mirror() so far; ValueError when the ring has no mirror.

        {'mirrored', 'compared', 'differing', 'dropped', 'failed', 'max_abs_difference'}: rows that the shadow was
        given; that were compared; that differed; whose turn it was, but that were not compared; that the ring answered
        and for which the shadow had an error. The last one is over all elements compared.
        """
    def clear_mirror(self, ring: int) -> None:
        """Mirror the ring's rows no more; the shadow is idle when it has run those that it has."""
    def publish(self, routes: Sequence[tuple[str, str, int | None, bool, bool, bool]]) -> None:
        """Swap the whole route table: (model, version, ring, latest, available, lazy) each. Any thread.

        A version may be an alias, another name for the same ring. A ring of None stands for a version that is not in
        memory; a request for one that is lazy is noted for take_misses(). ValueError for a ring that does not exist.
        """
    def ring_idle(self, ring: int) -> bool:
        """Whether no request gets to the ring any more, and none that did is unanswered."""
    def remove_ring(self, ring: int) -> bool:
        """Give an idle ring's memory back; whether that has happened, else ask again. ValueError in a group."""
    def miss_fd(self) -> int:
        """An eventfd that is readable when take_misses() has something; owned by the engine."""
    def take_misses(self) -> list[tuple[str, str]]:
        """The lazy routes that were asked for since the last call: (model, version) each."""
    def set_keys(
        self, keys: Sequence[tuple[str, bytes, str]], *, require_key: bool = False, development: bool = False
    ) -> None:
        """The keys that are good from now on: (id, SHA-256 of the whole key, role) each. Any thread.

        A role is predict, operator or admin. Changes need a key, with `require_key` everything but health; not in
        `development`, where who has none is an admin. Before the first call nothing needs a key.
        """
    def set_tls(self, certificate: str, key: str) -> None:
        """Encrypt connections over TCP with the certificate and key of these PEM files from now on. Any thread.

        ValueError says what is wrong with them; then nothing has changed.
        """
    def attach_second_level(self, fd: int) -> None:
        """Use the process behind this socket, which is the engine's from here on. Needs second_level_timeout_ms."""

    def set_ready(self, ready: bool) -> None: ...
    def await_tap(self, patience_ms: int) -> None:
        """Wait until drain_tap() would take many, at most so long."""
    def drain_tap(self) -> tuple[bytes, int, bytes]:
        """What sampled requests left behind since the last call: lines of the access log, how many, and TapRecords.

        The records are of what is traced; penstock.telemetry.record reads them. One thread at a time.
        """
    def drain(self) -> None:
        """Refuse new connections and requests, say not ready, answer what was accepted."""
    def drained(self) -> bool: ...
    def stop(self) -> None: ...
    def stats(self) -> dict[str, Any]: ...
