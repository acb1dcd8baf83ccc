/** Spans of OpenTelemetry for calls: `new Client(url, { hook: new OpenTelemetryHook(trace.getTracer("app")) })`. */

import { type PenstockError, RefusedError } from "./errors.js";
import type { Hook, Span } from "./hooks.js";

type Attributes = Record<string, string | number>;

/** What is used of a span of @opentelemetry/api. */
export interface TracedSpan {
  spanContext(): { traceId: string; spanId: string; traceFlags: number };
  setAttribute(name: string, value: string | number): unknown;
  addEvent(name: string, attributes: Attributes): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  end(): void;
}

/** What is used of a tracer of @opentelemetry/api. */
export interface Tracer {
  startSpan(name: string, options: { kind: number; attributes: Attributes }): TracedSpan;
}

// SpanKind.CLIENT and SpanStatusCode.ERROR of @opentelemetry/api, which is not needed for two numbers.
const CLIENT = 2;
const ERROR = 2;
const NO_TRACE = /^0*$/;

/**
 * Makes a span of kind CLIENT for each call, and hands its context on to the server as `traceparent`.
 *
 * Names and attributes are those of OpenTelemetry's conventions for HTTP clients. What is sent again stays in one span,
 * with an event for each attempt that failed.
 */
export class OpenTelemetryHook implements Hook {
  readonly #tracer: Tracer;

  constructor(tracer: Tracer) {
    this.#tracer = tracer;
  }

  /** Begin a span below the current one. */
  started(method: string, route: string, url: string, requestId: string): Span {
    const { hostname, port } = new URL(url);
    const attributes: Attributes = {
      "http.request.method": method,
      "url.full": url,
      "url.template": route,
      "server.address": hostname,
      "penstock.request_id": requestId,
      ...(port && { "server.port": Number(port) }),
    };
    return new CallSpan(this.#tracer.startSpan(`${method} ${route}`, { kind: CLIENT, attributes }));
  }
}

class CallSpan implements Span {
  readonly #span: TracedSpan;
  #resent = 0;

  constructor(span: TracedSpan) {
    this.#span = span;
  }

  traceparent(): string | undefined {
    const { traceId, spanId, traceFlags } = this.#span.spanContext();
    return NO_TRACE.test(traceId) ? undefined : `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
  }

  retried(error: PenstockError, waitMs: number): void {
    this.#resent += 1;
    this.#span.addEvent("retry", { "error.type": typeOf(error), wait_ms: waitMs });
  }

  ended(status: number | undefined, error: unknown): void {
    if (status !== undefined) {
      this.#span.setAttribute("http.response.status_code", status);
    }
    if (this.#resent > 0) {
      this.#span.setAttribute("http.request.resend_count", this.#resent);
    }
    if (error !== undefined) {
      this.#span.setAttribute("error.type", typeOf(error));
      this.#span.setStatus({ code: ERROR, message: error instanceof Error ? error.message : String(error) });
    }
    this.#span.end();
  }
}

function typeOf(error: unknown): string {
  if (error instanceof RefusedError && error.code) {
    return error.code;
  }
  return error instanceof Error ? error.name : typeof error;
}
