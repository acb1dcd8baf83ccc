"""Streams, reflection and health over gRPC, as unmodified clients of others ask for them."""

import queue
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests import models
from tests.clients.test_triton_grpc import an_input, row
from tests.serving import STOP_SECONDS, Server

pytestmark = pytest.mark.clients

SECONDS = 300.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def channel(foreign_server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"{foreign_server.host}:{foreign_server.port}") as channel:
        yield channel


@pytest.fixture
def answers(grpc_client: Any) -> Iterator["queue.Queue[tuple[Any, Any]]"]:
    """What a stream of the client brings, which is open while the test runs."""
    found: queue.Queue[tuple[Any, Any]] = queue.Queue()
    grpc_client.start_stream(lambda result, error: found.put((result, error)))
    yield found
    grpc_client.stop_stream()


def test_stream_of_requests(triton_grpc: Any, grpc_client: Any, answers: "queue.Queue[tuple[Any, Any]]") -> None:
    for number in range(500):
        inputs = [an_input(triton_grpc, "x", row(number, 0, 0, 0), "FP32")]
        grpc_client.async_stream_infer("affine", inputs, request_id=str(number))
    for number in range(500):
        result, error = answers.get(timeout=SECONDS)
        assert error is None
        assert result.get_response().id == str(number)
        assert result.as_numpy("y").tolist() == [[2 * number + 1, 1, 1, 1]]


def test_final_response_is_marked(triton_grpc: Any, grpc_client: Any, answers: "queue.Queue[tuple[Any, Any]]") -> None:
    inputs = [an_input(triton_grpc, "x", row(1, 0, 0, 0), "FP32")]
    grpc_client.async_stream_infer("affine", inputs, enable_empty_final_response=True)
    result, _ = answers.get(timeout=SECONDS)
    assert result.get_response().parameters["triton_final_response"].bool_param


def test_stream_goes_on_behind_errors(
    triton_grpc: Any, grpc_client: Any, answers: "queue.Queue[tuple[Any, Any]]"
) -> None:
    for model in ("affine", "nothing", "affine"):
        grpc_client.async_stream_infer(model, [an_input(triton_grpc, "x", row(1, 0, 0, 0), "FP32")])
    assert answers.get(timeout=SECONDS)[1] is None
    assert "no model 'nothing'" in answers.get(timeout=SECONDS)[1].message()
    assert answers.get(timeout=SECONDS)[0].as_numpy("y").tolist() == [[3, 1, 1, 1]]


def test_large_messages_in_a_stream(
    triton_grpc: Any, grpc_client: Any, answers: "queue.Queue[tuple[Any, Any]]"
) -> None:
    array = np.arange(200_000, dtype=np.float32).reshape(50_000, 4)
    for _ in range(4):
        grpc_client.async_stream_infer("affine", [an_input(triton_grpc, "x", array, "FP32")])
    for _ in range(4):
        assert np.array_equal(answers.get(timeout=SECONDS)[0].as_numpy("y"), 2 * array + 1)


def test_stream_that_is_cancelled(triton_grpc: Any, grpc_client: Any) -> None:
    ended: queue.Queue[Any] = queue.Queue()
    grpc_client.start_stream(lambda result, error: ended.put(error))
    inputs = [an_input(triton_grpc, "x", row(1, 0, 0, 0), "FP32")]
    grpc_client.async_stream_infer("affine", inputs)
    assert ended.get(timeout=SECONDS) is None
    grpc_client.stop_stream(cancel_requests=True)
    assert grpc_client.infer("affine", inputs).as_numpy("y").tolist() == [[3, 1, 1, 1]]


def test_time_of_a_stream(triton_grpc: Any, grpc_client: Any) -> None:
    ended: queue.Queue[Any] = queue.Queue()
    grpc_client.start_stream(lambda result, error: ended.put(error), stream_timeout=0.2)
    error = ended.get(timeout=SECONDS)
    assert error.status() == "StatusCode.DEADLINE_EXCEEDED"
    grpc_client.stop_stream()


def test_reflection_describes_a_call_that_works(channel: grpc.Channel) -> None:
    """As grpcurl does it: from the server's own description, and nothing else."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    pool = DescriptorPool(database)
    method = pool.FindServiceByName("inference.GRPCInferenceService").methods_by_name["ModelMetadata"]
    ask = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelMetadata",
        request_serializer=GetMessageClass(method.input_type).SerializeToString,
        response_deserializer=GetMessageClass(method.output_type).FromString,
    )
    answer = ask(GetMessageClass(method.input_type)(name="affine"))
    assert (answer.name, answer.inputs[0].name) == ("affine", "x")
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("inference.Nothing")


def test_health(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", "inference.GRPCInferenceService", "affine", "affine/1"):
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING
    with pytest.raises(grpc.RpcError) as refused:
        stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_health_is_watched(tmp_path: Path) -> None:
    """From its start to its end; the client sees each change, and the server does not wait for it."""
    server = Server.start([f"affine={models.affine(tmp_path)}"], tmp_path)
    with grpc.insecure_channel(f"{server.host}:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = {
            name: stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=SECONDS)
            for name in ("", "affine", "nothing")
        }
        assert [next(watch).status for watch in watches.values()] == [SERVING, SERVING, SERVICE_UNKNOWN]
        server.process.send_signal(signal.SIGTERM)
        assert next(watches[""]).status == NOT_SERVING
        for watch in watches.values():
            with pytest.raises(grpc.RpcError) as ended:
                list(watch)
            assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        server.process.wait(STOP_SECONDS)
