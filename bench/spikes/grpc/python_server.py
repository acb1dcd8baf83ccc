"""grpcio in a process of its own: `python python_server.py PORT sync|asyncio bytes|messages`.

`bytes` hands the serialised message through and builds a canned answer: what the library costs before it is of any
use. `messages` also parses the request and builds the answer with protobuf, as a server would have to.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from tritonclient.grpc import service_pb2

SERVICE = "inference.GRPCInferenceService"


def answer(request: service_pb2.ModelInferRequest) -> service_pb2.ModelInferResponse:
    """Return the input as the output."""
    raw = request.raw_input_contents[0]
    response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
    output = response.outputs.add()
    output.name, output.datatype = "scores", request.inputs[0].datatype
    output.shape.extend(request.inputs[0].shape)
    response.raw_output_contents.append(raw)
    return response


CANNED: bytes = answer(
    service_pb2.ModelInferRequest(
        model_name="digits",
        inputs=[service_pb2.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 64])],
        raw_input_contents=[bytes(256)],
    )
).SerializeToString()


def handlers(kind: str, respond: Callable[..., object]) -> grpc.GenericRpcHandler:
    """Return the service with one method, with or without the messages."""
    if kind == "bytes":
        method = grpc.unary_unary_rpc_method_handler(respond)
    else:
        method = grpc.unary_unary_rpc_method_handler(
            respond,
            request_deserializer=service_pb2.ModelInferRequest.FromString,
            response_serializer=service_pb2.ModelInferResponse.SerializeToString,
        )
    return grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": method})


def serve_sync(port: str, kind: str) -> None:
    """Serve with threads."""
    server = grpc.server(ThreadPoolExecutor(4))
    respond = (lambda _request, _context: CANNED) if kind == "bytes" else (lambda request, _context: answer(request))
    server.add_generic_rpc_handlers((handlers(kind, respond),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


async def serve_asyncio(port: str, kind: str) -> None:
    """Serve with coroutines."""
    server = grpc.aio.server()

    async def canned(_request: bytes, _context: object) -> bytes:
        return CANNED

    async def parsed(request: service_pb2.ModelInferRequest, _context: object) -> service_pb2.ModelInferResponse:
        return answer(request)

    server.add_generic_rpc_handlers((handlers(kind, canned if kind == "bytes" else parsed),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    _, port_text, mode, messages = sys.argv
    if mode == "sync":
        serve_sync(port_text, messages)
    else:
        asyncio.run(serve_asyncio(port_text, messages))
