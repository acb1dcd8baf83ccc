/** A class for each code of the catalogue. Written from sdk/contract/problems.json by `npm run generate`. */

import { ClientError, type Problem, type RefusedError, ServerError } from "./errors.js";

/**
 * Malformed request.
 *
 * The request is not HTTP/1.1 as RFC 9112 defines it, its length is ambiguous, or its query string cannot be read. The
 * connection is closed when the request's end cannot be known.
 */
export class MalformedRequestError extends ClientError {
  static override readonly problem: Problem = {
    name: "MalformedRequestError",
    code: "malformed_request",
    status: 400,
    title: "Malformed request",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Malformed body.
 *
 * The body is not valid JSON or msgpack. The detail gives the byte offset.
 */
export class MalformedBodyError extends ClientError {
  static override readonly problem: Problem = {
    name: "MalformedBodyError",
    code: "malformed_body",
    status: 400,
    title: "Malformed body",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Contradictory request.
 *
 * The query string and the body name different models or versions.
 */
export class ContradictionError extends ClientError {
  static override readonly problem: Problem = {
    name: "ContradictionError",
    code: "contradiction",
    status: 400,
    title: "Contradictory request",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Unauthorized.
 *
 * No valid key came with a request that needs one.
 */
export class UnauthorizedError extends ClientError {
  static override readonly problem: Problem = {
    name: "UnauthorizedError",
    code: "unauthorized",
    status: 401,
    title: "Unauthorized",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Forbidden.
 *
 * The key is valid but does not allow this.
 */
export class ForbiddenError extends ClientError {
  static override readonly problem: Problem = {
    name: "ForbiddenError",
    code: "forbidden",
    status: 403,
    title: "Forbidden",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Not found.
 *
 * There is no such route.
 */
export class NotFoundError extends ClientError {
  static override readonly problem: Problem = {
    name: "NotFoundError",
    code: "not_found",
    status: 404,
    title: "Not found",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Model not found.
 *
 * No model of this name is served.
 */
export class ModelNotFoundError extends ClientError {
  static override readonly problem: Problem = {
    name: "ModelNotFoundError",
    code: "model_not_found",
    status: 404,
    title: "Model not found",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Version not found.
 *
 * The model is served, but not in this version.
 */
export class VersionNotFoundError extends ClientError {
  static override readonly problem: Problem = {
    name: "VersionNotFoundError",
    code: "version_not_found",
    status: 404,
    title: "Version not found",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Method not allowed.
 *
 * The route exists for other methods; the Allow field lists them.
 */
export class MethodNotAllowedError extends ClientError {
  static override readonly problem: Problem = {
    name: "MethodNotAllowedError",
    code: "method_not_allowed",
    status: 405,
    title: "Method not allowed",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Not acceptable.
 *
 * None of the encodings that Accept allows can be produced for this reply.
 */
export class NotAcceptableError extends ClientError {
  static override readonly problem: Problem = {
    name: "NotAcceptableError",
    code: "not_acceptable",
    status: 406,
    title: "Not acceptable",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Request timeout.
 *
 * The request did not arrive completely in time. The connection is closed.
 */
export class RequestTimeoutError extends ClientError {
  static override readonly problem: Problem = {
    name: "RequestTimeoutError",
    code: "request_timeout",
    status: 408,
    title: "Request timeout",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Conflict.
 *
 * What is asked for contradicts what there is: a version that exists with other content, an alias that somebody else
 * has moved meanwhile, a model that is in use.
 */
export class ConflictError extends ClientError {
  static override readonly problem: Problem = {
    name: "ConflictError",
    code: "conflict",
    status: 409,
    title: "Conflict",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Length required.
 *
 * A body is expected and the request has neither Content-Length nor chunked transfer coding.
 */
export class LengthRequiredError extends ClientError {
  static override readonly problem: Problem = {
    name: "LengthRequiredError",
    code: "length_required",
    status: 411,
    title: "Length required",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Body too large.
 *
 * The body is larger than any request to the model can be, or holds more rows than its queue.
 */
export class BodyTooLargeError extends ClientError {
  static override readonly problem: Problem = {
    name: "BodyTooLargeError",
    code: "body_too_large",
    status: 413,
    title: "Body too large",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * URI too long.
 *
 * The request line is longer than the limit on the request head.
 */
export class UriTooLongError extends ClientError {
  static override readonly problem: Problem = {
    name: "UriTooLongError",
    code: "uri_too_long",
    status: 414,
    title: "URI too long",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Unsupported media type.
 *
 * Content-Type names no encoding that this route reads.
 */
export class UnsupportedMediaTypeError extends ClientError {
  static override readonly problem: Problem = {
    name: "UnsupportedMediaTypeError",
    code: "unsupported_media_type",
    status: 415,
    title: "Unsupported media type",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Unsupported content encoding.
 *
 * Content-Encoding names a compression that the server does not take here. The reply's Accept-Encoding names those
 * that it takes.
 */
export class UnsupportedContentEncodingError extends ClientError {
  static override readonly problem: Problem = {
    name: "UnsupportedContentEncodingError",
    code: "unsupported_content_encoding",
    status: 415,
    title: "Unsupported content encoding",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Expectation failed.
 *
 * Expect asks for something other than 100-continue.
 */
export class ExpectationFailedError extends ClientError {
  static override readonly problem: Problem = {
    name: "ExpectationFailedError",
    code: "expectation_failed",
    status: 417,
    title: "Expectation failed",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Invalid input.
 *
 * The body was read but does not fit the model's schema. The detail names the field, what was expected and what came.
 */
export class InvalidInputError extends ClientError {
  static override readonly problem: Problem = {
    name: "InvalidInputError",
    code: "invalid_input",
    status: 422,
    title: "Invalid input",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Model cannot be served.
 *
 * The model version could not be loaded, warmed up, or did not give the outputs that were registered with it. It gets
 * no traffic; what was served before is served on.
 */
export class LoadFailedError extends ClientError {
  static override readonly problem: Problem = {
    name: "LoadFailedError",
    code: "load_failed",
    status: 422,
    title: "Model cannot be served",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Too many requests.
 *
 * The caller is over its limit. Retry-After says when to come back.
 */
export class TooManyRequestsError extends ClientError {
  static override readonly problem: Problem = {
    name: "TooManyRequestsError",
    code: "too_many_requests",
    status: 429,
    title: "Too many requests",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Request head too large.
 *
 * The request line and the header fields together, or the number of fields, exceed their limit.
 */
export class HeadTooLargeError extends ClientError {
  static override readonly problem: Problem = {
    name: "HeadTooLargeError",
    code: "head_too_large",
    status: 431,
    title: "Request head too large",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Model error.
 *
 * The model failed on this row. Other rows of its batch are not affected.
 */
export class ModelError extends ServerError {
  static override readonly problem: Problem = {
    name: "ModelError",
    code: "model_error",
    status: 500,
    title: "Model error",
    retryable: false,
    mayHaveRun: true,
  };
}

/**
 * Internal error.
 *
 * The server failed in a way it has no other word for.
 */
export class InternalError extends ServerError {
  static override readonly problem: Problem = {
    name: "InternalError",
    code: "internal_error",
    status: 500,
    title: "Internal error",
    retryable: false,
    mayHaveRun: true,
  };
}

/**
 * Not implemented.
 *
 * The request needs a method or a transfer coding that the server does not know.
 */
export class NotImplementedByServerError extends ServerError {
  static override readonly problem: Problem = {
    name: "NotImplementedByServerError",
    code: "not_implemented",
    status: 501,
    title: "Not implemented",
    retryable: false,
    mayHaveRun: false,
  };
}

/**
 * Control plane unavailable.
 *
 * The part of the server that answers this route could not be reached.
 */
export class ControlPlaneUnavailableError extends ServerError {
  static override readonly problem: Problem = {
    name: "ControlPlaneUnavailableError",
    code: "control_plane_unavailable",
    status: 502,
    title: "Control plane unavailable",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Queue full.
 *
 * Every row of the model version's queue is taken. Retry-After says when to come back.
 */
export class QueueFullError extends ServerError {
  static override readonly problem: Problem = {
    name: "QueueFullError",
    code: "queue_full",
    status: 503,
    title: "Queue full",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Deadline unreachable.
 *
 * With what waits before it the row would be late for X-Request-Timeout-Ms or the model's latency objective, so it was
 * not run. Retry-After says when to come back.
 */
export class DeadlineUnreachableError extends ServerError {
  static override readonly problem: Problem = {
    name: "DeadlineUnreachableError",
    code: "deadline_unreachable",
    status: 503,
    title: "Deadline unreachable",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Connections exhausted.
 *
 * The server holds as many connections as it may.
 */
export class ConnectionsExhaustedError extends ServerError {
  static override readonly problem: Problem = {
    name: "ConnectionsExhaustedError",
    code: "connections_exhausted",
    status: 503,
    title: "Connections exhausted",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Memory exhausted.
 *
 * The pool that large bodies are read into is used up.
 */
export class MemoryExhaustedError extends ServerError {
  static override readonly problem: Problem = {
    name: "MemoryExhaustedError",
    code: "memory_exhausted",
    status: 503,
    title: "Memory exhausted",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Model unavailable.
 *
 * The model version is loading, restarting or has failed to load.
 */
export class ModelUnavailableError extends ServerError {
  static override readonly problem: Problem = {
    name: "ModelUnavailableError",
    code: "model_unavailable",
    status: 503,
    title: "Model unavailable",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Model is loading.
 *
 * The model is registered and not loaded at the moment; this request has asked for it to be loaded. Retry-After says
 * when to come back.
 */
export class ModelLoadingError extends ServerError {
  static override readonly problem: Problem = {
    name: "ModelLoadingError",
    code: "model_loading",
    status: 503,
    title: "Model is loading",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Registry unavailable.
 *
 * The registry of models cannot be read or written at the moment. Models that are served are served on.
 */
export class RegistryUnavailableError extends ServerError {
  static override readonly problem: Problem = {
    name: "RegistryUnavailableError",
    code: "registry_unavailable",
    status: 503,
    title: "Registry unavailable",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Worker died.
 *
 * The worker process died while it held the row, which may have run. Sending it again is safe only if running it twice
 * is.
 */
export class WorkerDiedError extends ServerError {
  static override readonly problem: Problem = {
    name: "WorkerDiedError",
    code: "worker_died",
    status: 503,
    title: "Worker died",
    retryable: false,
    mayHaveRun: true,
  };
}

/**
 * Draining.
 *
 * The server is shutting down and accepts no new work.
 */
export class DrainingError extends ServerError {
  static override readonly problem: Problem = {
    name: "DrainingError",
    code: "draining",
    status: 503,
    title: "Draining",
    retryable: true,
    mayHaveRun: false,
  };
}

/**
 * Deadline exceeded.
 *
 * The time given in X-Request-Timeout-Ms passed before the reply was ready.
 */
export class DeadlineExceededError extends ServerError {
  static override readonly problem: Problem = {
    name: "DeadlineExceededError",
    code: "deadline_exceeded",
    status: 504,
    title: "Deadline exceeded",
    retryable: false,
    mayHaveRun: true,
  };
}

/**
 * HTTP version not supported.
 *
 * The request is neither HTTP/2, HTTP/1.1 nor HTTP/1.0.
 */
export class HttpVersionNotSupportedError extends ServerError {
  static override readonly problem: Problem = {
    name: "HttpVersionNotSupportedError",
    code: "http_version_not_supported",
    status: 505,
    title: "HTTP version not supported",
    retryable: false,
    mayHaveRun: false,
  };
}

/** Every code of the catalogue. */
export type ProblemCode =
  | "malformed_request"
  | "malformed_body"
  | "contradiction"
  | "unauthorized"
  | "forbidden"
  | "not_found"
  | "model_not_found"
  | "version_not_found"
  | "method_not_allowed"
  | "not_acceptable"
  | "request_timeout"
  | "conflict"
  | "length_required"
  | "body_too_large"
  | "uri_too_long"
  | "unsupported_media_type"
  | "unsupported_content_encoding"
  | "expectation_failed"
  | "invalid_input"
  | "load_failed"
  | "too_many_requests"
  | "head_too_large"
  | "model_error"
  | "internal_error"
  | "not_implemented"
  | "control_plane_unavailable"
  | "queue_full"
  | "deadline_unreachable"
  | "connections_exhausted"
  | "memory_exhausted"
  | "model_unavailable"
  | "model_loading"
  | "registry_unavailable"
  | "worker_died"
  | "draining"
  | "deadline_exceeded"
  | "http_version_not_supported";

/** The class of each code. */
export const CLASSES: ReadonlyMap<string, typeof RefusedError> = new Map<ProblemCode, typeof RefusedError>([
  ["malformed_request", MalformedRequestError],
  ["malformed_body", MalformedBodyError],
  ["contradiction", ContradictionError],
  ["unauthorized", UnauthorizedError],
  ["forbidden", ForbiddenError],
  ["not_found", NotFoundError],
  ["model_not_found", ModelNotFoundError],
  ["version_not_found", VersionNotFoundError],
  ["method_not_allowed", MethodNotAllowedError],
  ["not_acceptable", NotAcceptableError],
  ["request_timeout", RequestTimeoutError],
  ["conflict", ConflictError],
  ["length_required", LengthRequiredError],
  ["body_too_large", BodyTooLargeError],
  ["uri_too_long", UriTooLongError],
  ["unsupported_media_type", UnsupportedMediaTypeError],
  ["unsupported_content_encoding", UnsupportedContentEncodingError],
  ["expectation_failed", ExpectationFailedError],
  ["invalid_input", InvalidInputError],
  ["load_failed", LoadFailedError],
  ["too_many_requests", TooManyRequestsError],
  ["head_too_large", HeadTooLargeError],
  ["model_error", ModelError],
  ["internal_error", InternalError],
  ["not_implemented", NotImplementedByServerError],
  ["control_plane_unavailable", ControlPlaneUnavailableError],
  ["queue_full", QueueFullError],
  ["deadline_unreachable", DeadlineUnreachableError],
  ["connections_exhausted", ConnectionsExhaustedError],
  ["memory_exhausted", MemoryExhaustedError],
  ["model_unavailable", ModelUnavailableError],
  ["model_loading", ModelLoadingError],
  ["registry_unavailable", RegistryUnavailableError],
  ["worker_died", WorkerDiedError],
  ["draining", DrainingError],
  ["deadline_exceeded", DeadlineExceededError],
  ["http_version_not_supported", HttpVersionNotSupportedError],
]);
