/** What a program that traces its calls gives to a client. opentelemetry.ts is one for OpenTelemetry. */

import type { PenstockError } from "./errors.js";

/** One call, from when it was asked for to its answer or error. Attempts that are sent again belong to it. */
export interface Span {
  /** Give the field `traceparent` (W3C Trace Context) that goes with the request; undefined for none. */
  traceparent(): string | undefined;
  /** Note that an attempt failed with `error`, and that the request is sent again after `waitMs`. */
  retried(error: PenstockError, waitMs: number): void;
  /** Note the end: the reply's status, undefined without a reply, and what the call throws. */
  ended(status: number | undefined, error: unknown): void;
}

/** Is told of every call. Its methods must not throw. */
export interface Hook {
  /** Note that a call begins: "POST", "/v2/models/{name}/infer", "http://h:8000/v2/models/m/infer", an id. */
  started(method: string, route: string, url: string, requestId: string): Span;
}
