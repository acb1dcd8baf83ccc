"""A class for each code of the catalogue. Written from sdk/contract/problems.json by `make sdk-types`."""

from __future__ import annotations

from penstock_client.errors import ClientError, RefusedError, ServerError

__all__ = [
    "CLASSES",
    "BodyTooLargeError",
    "ConflictError",
    "ConnectionsExhaustedError",
    "ContradictionError",
    "ControlPlaneUnavailableError",
    "DeadlineExceededError",
    "DeadlineUnreachableError",
    "DrainingError",
    "ExpectationFailedError",
    "ForbiddenError",
    "HeadTooLargeError",
    "HttpVersionNotSupportedError",
    "InternalError",
    "InvalidInputError",
    "LengthRequiredError",
    "LoadFailedError",
    "MalformedBodyError",
    "MalformedRequestError",
    "MemoryExhaustedError",
    "MethodNotAllowedError",
    "ModelError",
    "ModelLoadingError",
    "ModelNotFoundError",
    "ModelUnavailableError",
    "NotAcceptableError",
    "NotFoundError",
    "NotImplementedByServerError",
    "QueueFullError",
    "RegistryUnavailableError",
    "RequestTimeoutError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnsupportedContentEncodingError",
    "UnsupportedMediaTypeError",
    "UriTooLongError",
    "VersionNotFoundError",
    "WorkerDiedError",
]


class MalformedRequestError(ClientError):
    """Malformed request.

    The request is not HTTP/1.1 as RFC 9112 defines it, its length is ambiguous, or its query string cannot be read.
    The connection is closed when the request's end cannot be known.
    """

    code = "malformed_request"
    status = 400
    title = "Malformed request"
    retryable = False


class MalformedBodyError(ClientError):
    """Malformed body.

    The body is not valid JSON or msgpack. The detail gives the byte offset.
    """

    code = "malformed_body"
    status = 400
    title = "Malformed body"
    retryable = False


class ContradictionError(ClientError):
    """Contradictory request.

    The query string and the body name different models or versions.
    """

    code = "contradiction"
    status = 400
    title = "Contradictory request"
    retryable = False


class UnauthorizedError(ClientError):
    """Unauthorized.

    No valid key came with a request that needs one.
    """

    code = "unauthorized"
    status = 401
    title = "Unauthorized"
    retryable = False


class ForbiddenError(ClientError):
    """Forbidden.

    The key is valid but does not allow this.
    """

    code = "forbidden"
    status = 403
    title = "Forbidden"
    retryable = False


class NotFoundError(ClientError):
    """Not found.

    There is no such route.
    """

    code = "not_found"
    status = 404
    title = "Not found"
    retryable = False


class ModelNotFoundError(ClientError):
    """Model not found.

    No model of this name is served.
    """

    code = "model_not_found"
    status = 404
    title = "Model not found"
    retryable = False


class VersionNotFoundError(ClientError):
    """Version not found.

    The model is served, but not in this version.
    """

    code = "version_not_found"
    status = 404
    title = "Version not found"
    retryable = False


class MethodNotAllowedError(ClientError):
    """Method not allowed.

    The route exists for other methods; the Allow field lists them.
    """

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"
    retryable = False


class NotAcceptableError(ClientError):
    """Not acceptable.

    None of the encodings that Accept allows can be produced for this reply.
    """

    code = "not_acceptable"
    status = 406
    title = "Not acceptable"
    retryable = False


class RequestTimeoutError(ClientError):
    """Request timeout.

    The request did not arrive completely in time. The connection is closed.
    """

    code = "request_timeout"
    status = 408
    title = "Request timeout"
    retryable = True


class ConflictError(ClientError):
    """Conflict.

    What is asked for contradicts what there is: a version that exists with other content, an alias that somebody else
    has moved meanwhile, a model that is in use.
    """

    code = "conflict"
    status = 409
    title = "Conflict"
    retryable = False


class LengthRequiredError(ClientError):
    """Length required.

    A body is expected and the request has neither Content-Length nor chunked transfer coding.
    """

    code = "length_required"
    status = 411
    title = "Length required"
    retryable = False


class BodyTooLargeError(ClientError):
    """Body too large.

    The body is larger than any request to the model can be, or holds more rows than its queue.
    """

    code = "body_too_large"
    status = 413
    title = "Body too large"
    retryable = False


class UriTooLongError(ClientError):
    """URI too long.

    The request line is longer than the limit on the request head.
    """

    code = "uri_too_long"
    status = 414
    title = "URI too long"
    retryable = False


class UnsupportedMediaTypeError(ClientError):
    """Unsupported media type.

    Content-Type names no encoding that this route reads.
    """

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"
    retryable = False


class UnsupportedContentEncodingError(ClientError):
    """Unsupported content encoding.

    Content-Encoding names a compression that the server does not take here. The reply's Accept-Encoding names those
    that it takes.
    """

    code = "unsupported_content_encoding"
    status = 415
    title = "Unsupported content encoding"
    retryable = False


class ExpectationFailedError(ClientError):
    """Expectation failed.

    Expect asks for something other than 100-continue.
    """

    code = "expectation_failed"
    status = 417
    title = "Expectation failed"
    retryable = False


class InvalidInputError(ClientError):
    """Invalid input.

    The body was read but does not fit the model's schema. The detail names the field, what was expected and what
    came.
    """

    code = "invalid_input"
    status = 422
    title = "Invalid input"
    retryable = False


class LoadFailedError(ClientError):
    """Model cannot be served.

    The model version could not be loaded, warmed up, or did not give the outputs that were registered with it. It
    gets no traffic; what was served before is served on.
    """

    code = "load_failed"
    status = 422
    title = "Model cannot be served"
    retryable = False


class TooManyRequestsError(ClientError):
    """Too many requests.

    The caller is over its limit. Retry-After says when to come back.
    """

    code = "too_many_requests"
    status = 429
    title = "Too many requests"
    retryable = True


class HeadTooLargeError(ClientError):
    """Request head too large.

    The request line and the header fields together, or the number of fields, exceed their limit.
    """

    code = "head_too_large"
    status = 431
    title = "Request head too large"
    retryable = False


class ModelError(ServerError):
    """Model error.

    The model failed on this row. Other rows of its batch are not affected.
    """

    code = "model_error"
    status = 500
    title = "Model error"
    retryable = False
    may_have_run = True


class InternalError(ServerError):
    """Internal error.

    The server failed in a way it has no other word for.
    """

    code = "internal_error"
    status = 500
    title = "Internal error"
    retryable = False
    may_have_run = True


class NotImplementedByServerError(ServerError):
    """Not implemented.

    The request needs a method or a transfer coding that the server does not know.
    """

    code = "not_implemented"
    status = 501
    title = "Not implemented"
    retryable = False


class ControlPlaneUnavailableError(ServerError):
    """Control plane unavailable.

    The part of the server that answers this route could not be reached.
    """

    code = "control_plane_unavailable"
    status = 502
    title = "Control plane unavailable"
    retryable = True


class QueueFullError(ServerError):
    """Queue full.

    Every row of the model version's queue is taken. Retry-After says when to come back.
    """

    code = "queue_full"
    status = 503
    title = "Queue full"
    retryable = True


class DeadlineUnreachableError(ServerError, TimeoutError):
    """Deadline unreachable.

    With what waits before it the row would be late for X-Request-Timeout-Ms or the model's latency objective, so it
    was not run. Retry-After says when to come back.
    """

    code = "deadline_unreachable"
    status = 503
    title = "Deadline unreachable"
    retryable = True


class ConnectionsExhaustedError(ServerError):
    """Connections exhausted.

    The server holds as many connections as it may.
    """

    code = "connections_exhausted"
    status = 503
    title = "Connections exhausted"
    retryable = True


class MemoryExhaustedError(ServerError):
    """Memory exhausted.

    The pool that large bodies are read into is used up.
    """

    code = "memory_exhausted"
    status = 503
    title = "Memory exhausted"
    retryable = True


class ModelUnavailableError(ServerError):
    """Model unavailable.

    The model version is loading, restarting or has failed to load.
    """

    code = "model_unavailable"
    status = 503
    title = "Model unavailable"
    retryable = True


class ModelLoadingError(ServerError):
    """Model is loading.

    The model is registered and not loaded at the moment; this request has asked for it to be loaded. Retry-After says
    when to come back.
    """

    code = "model_loading"
    status = 503
    title = "Model is loading"
    retryable = True


class RegistryUnavailableError(ServerError):
    """Registry unavailable.

    The registry of models cannot be read or written at the moment. Models that are served are served on.
    """

    code = "registry_unavailable"
    status = 503
    title = "Registry unavailable"
    retryable = True


class WorkerDiedError(ServerError):
    """Worker died.

    The worker process died while it held the row, which may have run. Sending it again is safe only if running it
    twice is.
    """

    code = "worker_died"
    status = 503
    title = "Worker died"
    retryable = False
    may_have_run = True


class DrainingError(ServerError):
    """Draining.

    The server is shutting down and accepts no new work.
    """

    code = "draining"
    status = 503
    title = "Draining"
    retryable = True


class DeadlineExceededError(ServerError, TimeoutError):
    """Deadline exceeded.

    The time given in X-Request-Timeout-Ms passed before the reply was ready.
    """

    code = "deadline_exceeded"
    status = 504
    title = "Deadline exceeded"
    retryable = False
    may_have_run = True


class HttpVersionNotSupportedError(ServerError):
    """HTTP version not supported.

    The request is neither HTTP/2, HTTP/1.1 nor HTTP/1.0.
    """

    code = "http_version_not_supported"
    status = 505
    title = "HTTP version not supported"
    retryable = False


CLASSES: dict[str, type[RefusedError]] = {
    kind.code: kind
    for kind in (
        MalformedRequestError,
        MalformedBodyError,
        ContradictionError,
        UnauthorizedError,
        ForbiddenError,
        NotFoundError,
        ModelNotFoundError,
        VersionNotFoundError,
        MethodNotAllowedError,
        NotAcceptableError,
        RequestTimeoutError,
        ConflictError,
        LengthRequiredError,
        BodyTooLargeError,
        UriTooLongError,
        UnsupportedMediaTypeError,
        UnsupportedContentEncodingError,
        ExpectationFailedError,
        InvalidInputError,
        LoadFailedError,
        TooManyRequestsError,
        HeadTooLargeError,
        ModelError,
        InternalError,
        NotImplementedByServerError,
        ControlPlaneUnavailableError,
        QueueFullError,
        DeadlineUnreachableError,
        ConnectionsExhaustedError,
        MemoryExhaustedError,
        ModelUnavailableError,
        ModelLoadingError,
        RegistryUnavailableError,
        WorkerDiedError,
        DrainingError,
        DeadlineExceededError,
        HttpVersionNotSupportedError,
    )
}
