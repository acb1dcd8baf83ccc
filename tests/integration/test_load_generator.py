"""The generator against real sockets: a Penstock, and servers that behave badly in one way each."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from penstock.core.errors import ConfigError, LoadError
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson, PenstockMsgpack, PenstockRaw
from penstock.load.generator import Address, ClosedLoop, Load, Progress, run_load
from penstock.load.measurement import measure, summarize
from penstock.load.recording import Failure, WrongAnswerError
from penstock.load.rows import TensorSpec, random_rows
from penstock.load.schedule import Schedule, constant, poisson
from tests.serving import Server

INPUTS = [TensorSpec("x", "float32", (4,))]
OUTPUTS = [TensorSpec("y", "float32", (4,))]
MODEL = """
from penstock.worker import Tensor

class Model:
    inputs = {"x": Tensor("float32", (4,))}
    outputs = {"y": Tensor("float32", (4,))}

    def predict(self, batch):
        return {"y": batch["x"] * 2}
"""
REPLY = b'HTTP/1.1 200 OK\r\nContent-Length: 27\r\n\r\n{"outputs":{"y":[1,2,3,4]}}'
ROWS = random_rows(INPUTS, 32)
JSON = Corpus.of([Traffic("double", PenstockJson(), ROWS, OUTPUTS)])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("load")
    (folder / "double.py").write_text(MODEL)
    running = Server.start([f"double={folder / 'double.py'}", "--unix-socket", str(folder / "s")], folder)
    yield running
    running.stop()


@contextmanager
def serving(handle: Callable[[socket.socket], None]) -> Iterator[Address]:
    """Listen, and let `handle` have each connection, one after the other; it ends when it returns."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopping = threading.Event()

    def accept() -> None:
        while not stopping.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                handle(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield Address("127.0.0.1", listener.getsockname()[1])
    finally:
        stopping.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def expecting(factor: float) -> Corpus:
    """All three dialects, with the answers of a model that multiplies by `factor`."""
    expected = [{"y": row["x"] * np.float32(factor)} for row in ROWS]
    dialects = [PenstockJson(), PenstockMsgpack(), PenstockRaw()]
    return Corpus.of([Traffic("double", dialect, ROWS, OUTPUTS, expected=expected) for dialect in dialects])


def test_every_request_is_sent_on_schedule_and_every_answer_is_right(server: Server) -> None:
    address = Address("127.0.0.1", server.port)
    schedule = poisson(2000, 1.5)
    recording = run_load(Load(address, expecting(2), schedule, connections=16, warm_up=0.5, timeout=300))
    assert np.array_equal(np.sort(recording.records["due_ns"]), schedule.due_ns)
    assert recording.check() == len(schedule.due_ns)
    records = recording.records
    assert np.all(records["due_ns"] <= records["noticed_ns"]) and np.all(records["noticed_ns"] <= records["sent_ns"])
    assert np.all(records["sent_ns"] < records["done_ns"])
    assert not recording.errors() and recording.reconnects == 0
    kinds = [len(recording.of_kind(kind)) for kind in range(3)]
    assert sum(kinds) == len(recording.measured) == np.count_nonzero(schedule.due_ns >= 500_000_000)
    assert min(kinds) > 0


@pytest.mark.parametrize("threads", [1, 3])
def test_closed_loop_over_a_unix_socket_with_pipelining(server: Server, threads: int) -> None:
    address = Address.parse(f"unix:{server.log.parent / 's'}")
    load = Load(
        address, expecting(2), ClosedLoop(0.6), connections=6, depth=4, threads=threads, warm_up=0.1, timeout=300
    )
    seen = []
    recording = run_load(load, lambda progress: seen.append(progress.answered))
    assert recording.check() == len(recording.records) > 0
    assert seen == sorted(seen) and seen[-1] <= len(recording.records)


def test_a_wrong_answer_is_found(server: Server) -> None:
    recording = run_load(
        Load(Address("127.0.0.1", server.port), expecting(3), constant(100, 0.3), warm_up=0, timeout=300)
    )
    with pytest.raises(WrongAnswerError, match="expected"):
        recording.check()


def test_refusals_are_counted_by_their_code(server: Server) -> None:
    corpus = Corpus.of([Traffic("missing", PenstockJson(), ROWS, OUTPUTS)])
    load = Load(Address("127.0.0.1", server.port), corpus, constant(100, 0.3), warm_up=0, timeout=300)
    recording = run_load(load)
    assert recording.errors() == {"404 model_not_found": 30}
    figures = summarize(load, recording)
    assert figures.latency is None and figures.failed == 30 and figures.kinds[0].goodput == 0


def test_figures_of_a_real_server(server: Server) -> None:
    traffic = Traffic("double", PenstockJson(), ROWS, OUTPUTS, slo_ms=300_000)
    load = Load(Address("127.0.0.1", server.port), Corpus.of([traffic]), constant(500, 1.5), warm_up=0.5, timeout=300)
    _, figures = measure(load, server.process.pid)
    assert figures.requests == 500 and figures.offered_rate == pytest.approx(500)
    assert figures.latency is not None and 0 < figures.latency.p50 <= figures.latency.p99 <= figures.latency.max
    assert figures.kinds[0].goodput == 1
    for _ in range(20):  # on a busy machine nobody may have looked at the server in time
        if figures.cost is None:
            _, figures = measure(load, server.process.pid)
    cost = figures.cost
    assert cost is not None
    assert cost.cpu_us > 0 and cost.pss > 10 << 20 and cost.processes == 2
    assert cost.user_us + cost.system_us == pytest.approx(cost.cpu_us)
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram.decode(figures.histogram)
    assert histogram.get_total_count() == 500
    assert histogram.get_value_at_percentile(50) == pytest.approx(figures.latency.p50, rel=0.01, abs=2)


def test_the_server_is_asked_about_itself_while_nothing_is_measured(server: Server) -> None:
    moments: list[int] = []

    def count() -> tuple[float, float]:
        moments.append(time.monotonic_ns())
        return float(len(moments)), 1.0

    looks: list[tuple[float, int]] = []
    load = Load(Address("127.0.0.1", server.port), JSON, constant(200, 0.8), warm_up=0.4, timeout=300)

    def watch(progress: Progress) -> None:
        looks.append((progress.seconds, len(moments)))

    recording, figures = measure(load, server.process.pid, count, watch)
    # Once before it measures, as soon as anybody looks at all, and once when all is over.
    assert all(asked >= 1 for seconds, asked in looks if seconds >= 0.25)
    assert len(moments) == 2 and moments[-1] - recording.started_ns > recording.records["done_ns"].max()
    assert figures.requests == 80


def test_latency_counts_from_the_intended_time() -> None:
    """One connection to a server that is silent until all is due: what could not be sent meanwhile has waited too."""
    all_due = threading.Event()

    def wait_then_answer(connection: socket.socket) -> None:
        while received := connection.recv(65536):
            all_due.wait()
            connection.sendall(REPLY * received.count(b"POST "))

    def watch(progress: Progress) -> None:
        if progress.seconds > 0.3:
            all_due.set()

    with serving(wait_then_answer) as address:
        recording = run_load(Load(address, JSON, constant(100, 0.3), connections=1, warm_up=0), watch)
    latency_ms = np.sort((recording.records["done_ns"] - recording.records["due_ns"]) / 1e6)
    assert latency_ms[-1] >= 300
    assert np.count_nonzero(latency_ms > 100) >= 20  # those due in the first 200 ms
    waited = recording.records["sent_ns"] - recording.records["noticed_ns"]
    assert np.count_nonzero(waited > 50e6) >= 20


def test_a_server_that_closes_after_each_reply_is_asked_again() -> None:
    def reply_once(connection: socket.socket) -> None:
        if connection.recv(65536):
            connection.sendall(REPLY)

    with serving(reply_once) as address:
        recording = run_load(Load(address, JSON, constant(50, 0.4), connections=1, warm_up=0))
    assert recording.errors().keys() <= {"closed"}
    assert len(recording.records) == 20 and recording.reconnects > 3
    assert np.count_nonzero(recording.records["status"] == 200) > 3


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"hello\r\n\r\n", Failure.NOT_HTTP),
        (b"", Failure.TIMEOUT),
        (REPLY[:-3], Failure.TIMEOUT),
        (None, Failure.CLOSED),
    ],
)
def test_failures_have_a_kind(answer: bytes | None, failure: Failure) -> None:
    def misbehave(connection: socket.socket) -> None:
        if connection.recv(65536) and answer is not None:
            connection.sendall(answer)
            while connection.recv(65536):
                pass

    with serving(misbehave) as address:
        timeout = 2.0 if failure is Failure.TIMEOUT else 300.0
        recording = run_load(Load(address, JSON, constant(10, 0.1), connections=1, warm_up=0, timeout=timeout))
    assert recording.records["failure"].tolist() == [failure]
    assert recording.errors() == {failure.name.lower(): 1}


def test_an_unasked_reply_is_an_error() -> None:
    def talk_twice(connection: socket.socket) -> None:
        if connection.recv(65536):
            connection.sendall(REPLY + REPLY)
            while connection.recv(65536):
                pass

    with serving(talk_twice) as address:
        recording = run_load(Load(address, JSON, constant(10, 0.1), connections=1, warm_up=0))
    assert recording.records["status"].tolist() == [200]
    assert recording.reconnects == 1


def test_nobody_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", probe.getsockname()[1])
        with pytest.raises(LoadError, match="only 0 of 2 connections"):
            run_load(Load(address, JSON, constant(10, 0.1), connections=2, warm_up=0, timeout=0.2))
    with pytest.raises(LoadError, match=r"unknown\.invalid"):
        run_load(Load(Address("unknown.invalid", 80), JSON, constant(10, 0.1), warm_up=0))


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (Load(Address("127.0.0.1", 1), JSON, ClosedLoop(2), connections=0), "start at 1"),
        (Load(Address("127.0.0.1", 1), JSON, ClosedLoop(2), connections=1, threads=2), "needs a connection"),
        (Load(Address("127.0.0.1", 1), JSON, ClosedLoop(1), warm_up=1), "nothing of 1 s"),
        (Load(Address("127.0.0.1", 1), JSON, Schedule(np.empty(0, np.int64), 2.0)), "holds no request"),
        (Load(Address("127.0.0.1", 1), Corpus.of([]), ClosedLoop(2)), "no request to send"),
        (Load(Address("/" + "x" * 200, 0), JSON, ClosedLoop(2)), "too long"),
    ],
)
def test_a_senseless_load_is_refused(load: Load, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run_load(load)
