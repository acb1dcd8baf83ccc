"""Where the data plane relays calls of gRPC that it does not answer itself. Nobody else gets here."""

from __future__ import annotations

from flask import Response, request
from flask_restful import Resource

from penstock.control.state import ServerState
from penstock.core.errors import RequestError

__all__ = ["GrpcMethod"]

_TYPE = "application/grpc"

_NOT_SERVED = {
    "SystemSharedMemory": "shared memory is not served: send tensors in the message",
    "CudaSharedMemory": "shared memory is not served: send tensors in the message",
    "TraceSetting": "traces are settings of the server, trace_endpoint and trace_sample",
    "LogSettings": "logs are settings of the server, log_level and access_log",
}


class GrpcMethod(Resource):  # type: ignore[misc]  # flask_restful has no types
    """A unary method, or a single message of a stream: its body is the message, as is the answer's."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def post(self, service: str, method: str) -> Response:
        """Answer a message."""
        for prefix, why in _NOT_SERVED.items():
            if method.startswith(prefix):
                raise RequestError("not_implemented", f"{method} is not implemented: {why}")
        try:
            from penstock.control.grpc.methods import call
        except ImportError:
            raise RequestError(
                "not_implemented",
                f"{method} needs protobuf, which is not installed here: pip install 'penstock[grpc]'; "
                "the REST routes of /v2 tell the same",
            ) from None
        return Response(call(self._state, service, method, request.get_data()), content_type=_TYPE)
