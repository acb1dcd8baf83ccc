"""gRPC against a real server, with grpcio: what is wrong, torn, taken back or slow harms nobody."""

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from penstock.control.grpc import contract
from tests import models
from tests.serving import Server

INFERENCE = "/inference.GRPCInferenceService"
STREAM = f"{INFERENCE}/ModelStreamInfer"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
SECONDS = 300.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("grpc")
    running = Server.start([f"affine={models.affine(folder)}"], folder)
    yield running
    running.stop()


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        yield channel


def request(number: float, rows: int = 1, model: str = "affine") -> bytes:
    message = contract.message_of("inference.ModelInferRequest")
    message.model_name, message.id = model, str(number)
    message.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
    message.raw_input_contents.append(np.full((rows, 4), number, np.float32).tobytes())
    written: bytes = message.SerializeToString()
    return written


def answer(content: bytes) -> Any:
    return contract.read("inference.ModelStreamInferResponse", content)


def assert_answers(content: bytes, number: float) -> None:
    read = answer(content)
    assert read.error_message == ""
    assert read.infer_response.id == str(number)
    values = np.frombuffer(read.infer_response.raw_output_contents[0], np.float32)
    assert values[0] == 2 * number + 1


class Sent:
    """The requests of a stream, sent as they are given."""

    def __init__(self) -> None:
        self._messages: queue.Queue[bytes | None] = queue.Queue()

    def __iter__(self) -> "Sent":
        return self

    def __next__(self) -> bytes:
        message = self._messages.get()
        if message is None:
            raise StopIteration
        return message

    def send(self, message: bytes) -> None:
        self._messages.put(message)

    def end(self) -> None:
        self._messages.put(None)


def test_messages_that_are_wrong(channel: grpc.Channel) -> None:
    messages = [request(1), b"", b"\x0a\xff", request(2, model="nothing"), request(3)]
    first, empty, torn, unknown, last = list(channel.stream_stream(STREAM)(iter(messages), timeout=SECONDS))
    assert_answers(first, 1)
    assert answer(empty).error_message
    assert answer(torn).error_message == "the message is no protobuf"
    assert "no model 'nothing'" in answer(unknown).error_message
    assert answer(unknown).infer_response.id == "2"
    assert_answers(last, 3)


def test_stream_that_is_taken_back(channel: grpc.Channel) -> None:
    sent = Sent()
    answers = channel.stream_stream(STREAM)(sent, timeout=SECONDS)
    for number in range(2000):
        sent.send(request(number))
    assert_answers(next(answers), 0)
    answers.cancel()
    sent.end()
    with pytest.raises(grpc.RpcError) as ended:
        list(answers)
    assert ended.value.code() == grpc.StatusCode.CANCELLED
    assert_answers(next(iter(channel.stream_stream(STREAM)(iter([request(7)]), timeout=SECONDS))), 7)


def test_channel_that_is_closed(server: Server) -> None:
    for _ in range(5):
        with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
            sent = Sent()
            answers = channel.stream_stream(STREAM)(sent, timeout=SECONDS)
            for number in range(100):
                sent.send(request(number))
            assert_answers(next(answers), 0)
            sent.end()
    assert server.predict(model="affine", inputs=[1, 2, 3, 4]).status == 200


def test_many_streams_at_once(channel: grpc.Channel) -> None:
    failures: list[str] = []

    def ask(first: int) -> None:
        messages = [request(number) for number in range(first, first + 100)]
        for number, content in enumerate(channel.stream_stream(STREAM)(iter(messages), timeout=SECONDS), first):
            try:
                assert_answers(content, number)
            except AssertionError as error:
                failures.append(f"{number}: {error}")

    threads = [threading.Thread(target=ask, args=(1000 * index,)) for index in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_reader_that_is_slow(channel: grpc.Channel) -> None:
    """It gets everything, whenever it comes for it; meanwhile others are answered."""
    count, rows = 200, 2000
    slow = channel.stream_stream(STREAM)(iter([request(number, rows) for number in range(count)]), timeout=SECONDS)
    assert_answers(next(slow), 0)
    for number in range(50):
        (content,) = channel.stream_stream(STREAM)(iter([request(number)]), timeout=SECONDS)
        assert_answers(content, number)
    for number in range(1, count):
        assert_answers(next(slow), number)
    with pytest.raises(StopIteration):
        next(slow)


def test_time_of_a_stream(channel: grpc.Channel) -> None:
    for seconds in (0.3, 3, 30, 300):  # on a busy machine its time may be over before it is answered
        sent = Sent()
        answers = channel.stream_stream(STREAM)(sent, timeout=seconds)
        sent.send(request(1))
        taken: list[bytes] = []
        with pytest.raises(grpc.RpcError) as ended:
            taken.extend(answers)  # until its time is over
        sent.end()
        assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if taken:
            break
    (content,) = taken
    assert_answers(content, 1)


def test_reflection_in_one_stream(channel: grpc.Channel) -> None:
    name = "grpc.reflection.v1.ServerReflection"
    asked = [{"list_services": ""}, {"file_containing_symbol": name}, {"file_by_filename": "nothing"}]
    messages = [contract.describe(f"{name}Request", each) for each in asked]
    listed, file, absent = (
        contract.read(f"{name}Response", content)
        for content in channel.stream_stream(REFLECT)(iter(messages), timeout=SECONDS)
    )
    assert name in [each.name for each in listed.list_services_response.service]
    assert file.file_descriptor_response.file_descriptor_proto[0] == contract.file_with(name)
    assert absent.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_reflection_that_is_no_message(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        list(channel.stream_stream(REFLECT)(iter([b"\x0a\xff"]), timeout=SECONDS))
    assert ended.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_health_is_listed(channel: grpc.Channel) -> None:
    content = channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=SECONDS)
    statuses = contract.read("grpc.health.v1.HealthListResponse", content).statuses
    assert {name: each.status for name, each in statuses.items()} == {
        "": 1,
        "inference.GRPCInferenceService": 1,
        "affine": 1,
    }


@pytest.mark.parametrize("path", [f"{INFERENCE}/Nothing", "/nothing.Here/Nothing", "/grpc.health.v1.Health/Nothing"])
def test_method_that_nobody_serves(channel: grpc.Channel, path: str) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(path)(b"", timeout=SECONDS)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_messages_leave_lines_in_the_access_log(tmp_path: Path) -> None:
    """One each, with the client's address."""
    log = tmp_path / "access.log"
    running = Server.start([f"affine={models.affine(tmp_path)}", "--access-log", str(log)], tmp_path)
    with grpc.insecure_channel(f"{running.host}:{running.port}") as channel:
        assert len(list(channel.stream_stream(STREAM)(iter([request(1), request(2)]), timeout=SECONDS))) == 2
    running.stop()
    lines = [line for line in log.read_text().splitlines() if "ModelStreamInfer" in line]
    assert len(lines) == 2
    assert all('"client":"127.0.0.1"' in line.replace(" ", "") for line in lines)
