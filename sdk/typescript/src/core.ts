/** The request core: what is sent, what an answer means, and whether it is sent again. */

import type { Address } from "./address.js";
import {
  type About,
  ArgumentError,
  ClientError,
  type FieldProblem,
  PenstockError,
  ProtocolError,
  type Refusal,
  RefusedError,
  ServerError,
  TimedOutError,
} from "./errors.js";
import type { Hook, Span } from "./hooks.js";
import { checkedId, nextId } from "./identity.js";
import { CLASSES } from "./problems.js";
import type { Retries } from "./retrying.js";
import { type Fetch, failure, type Reply, textOf, whole } from "./transport.js";
import { at, now, type Permits, sleep, unlessAborted } from "./waiting.js";

/** Which of a model's rows go first. */
export type Priority = "interactive" | "normal" | "batch";

const PRIORITIES: readonly unknown[] = ["interactive", "normal", "batch"];
// The server answers a request that is late with a 504, up to 8 ms after its time. That answer says more than silence
// does, so a client waits a little longer than the server may take.
const GRACE_MS = 100;
const TIMEOUT_MS_MAX = 86_400_000;
const PLACES = new Map([
  ["models", "{name}"],
  ["versions", "{version}"],
  ["aliases", "{alias}"],
  ["keys", "{id}"],
]);

/** What all calls of a client have in common. */
export interface Settings {
  readonly address: Address;
  readonly fields: Readonly<Record<string, string>>;
  readonly fetch: Fetch;
  readonly timeoutMs: number;
  readonly retries: Retries;
  readonly repeatable: boolean;
  readonly hook: Hook | undefined;
  readonly permits: Permits;
}

/** What every call can say. */
export interface CallOptions {
  /** Milliseconds for the whole call with all its attempts, in place of the client's; Infinity is no limit. */
  timeoutMs?: number | undefined;
  /** Ends the call, at the server, too. What it throws then is the signal's reason. */
  signal?: AbortSignal | undefined;
  /** In place of one that is made up. */
  requestId?: string | undefined;
}

/** What one call says beyond its body. What is not said is as the client's settings have it. */
export interface Call extends CallOptions {
  readonly priority?: Priority | undefined;
  readonly receipt?: boolean | undefined;
  readonly reproducible?: boolean | undefined;
  readonly repeatable?: boolean | undefined;
  readonly retries?: Retries | undefined;
}

/** What is sent. `target` is the path with its query, quoted; the address's prefix goes before it. */
export interface Outgoing {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly target: string;
  readonly body?: string | Uint8Array<ArrayBuffer> | Blob | ReadableStream<Uint8Array> | undefined;
  readonly contentType?: string;
  readonly accept?: string;
  readonly fields?: Readonly<Record<string, string>>;
}

/** An answer whose body is still on its way; `done` gives back what the call holds, and ends it when it still goes on. */
export interface Opened {
  readonly response: Response;
  readonly requestId: string;
  /** Is aborted when the caller's is. */
  readonly signal: AbortSignal;
  readonly done: (reason?: unknown) => void;
}

/** Makes requests and reads answers. */
export class Core {
  constructor(readonly settings: Settings) {}

  /** Send a request until it is answered with a 2xx; rejects with what else becomes of it. */
  async send(request: Outgoing, call: Call = {}): Promise<Reply> {
    const requestId = call.requestId === undefined ? nextId() : checkedId(call.requestId);
    const fields = fieldsOf(call);
    const url = this.settings.address.urlOf(request.target);
    const span = this.settings.hook?.started(request.method, routeOf(request.target), url, requestId);
    try {
      const reply = await this.#attempts(request, call, requestId, { ...fields, ...traceOf(span) }, span);
      span?.ended(reply.status, undefined);
      return reply;
    } catch (error) {
      span?.ended(error instanceof RefusedError ? error.status : undefined, error);
      throw error;
    }
  }

  /** Send a request whose answer is read as it comes. It is sent once: what it streams cannot be streamed again. */
  async open(request: Outgoing, call: Call = {}): Promise<Opened> {
    const { settings } = this;
    const requestId = call.requestId === undefined ? nextId() : checkedId(call.requestId);
    const fields = fieldsOf(call);
    if (call.timeoutMs !== undefined) {
      fields["X-Request-Timeout-Ms"] = timeoutField(call.timeoutMs);
    }
    const url = settings.address.urlOf(request.target);
    const span = settings.hook?.started(request.method, routeOf(request.target), url, requestId);
    const about = { requestId, attempts: 1 };
    try {
      call.signal?.throwIfAborted();
      await settings.permits.take(Infinity, call.signal);
    } catch (reason) {
      span?.ended(undefined, reason);
      throw reason;
    }
    const controller = new AbortController();
    const leave = follow(call.signal, controller);
    const done = (reason?: unknown): void => {
      leave();
      settings.permits.give();
      controller.abort(reason);
    };
    try {
      const init = this.#init(request, { ...fields, ...traceOf(span) }, requestId, controller.signal);
      const answer = settings.fetch(url, { ...init, ...HALF_DUPLEX });
      const response = await unlessAborted(answer, controller.signal).catch((thrown: unknown) => {
        throw call.signal?.aborted ? call.signal.reason : failure(thrown, about);
      });
      if (response.status < 200 || response.status > 299) {
        throw refusal(await whole(response), about);
      }
      span?.ended(response.status, undefined);
      return { response, requestId, signal: controller.signal, done };
    } catch (error) {
      span?.ended(error instanceof RefusedError ? error.status : undefined, error);
      done();
      throw error;
    }
  }

  async #attempts(
    request: Outgoing,
    call: Call,
    requestId: string,
    fields: Record<string, string>,
    span: Span | undefined,
  ): Promise<Reply> {
    const { settings } = this;
    const timeoutMs = call.timeoutMs ?? settings.timeoutMs;
    const deadline = now() + timeoutMs;
    const repeatable = (call.repeatable ?? settings.repeatable) || request.method === "GET";
    let ran = false;
    for (let attempt = 1; ; attempt += 1) {
      const error = await this.#attempt(request, call, requestId, fields, { attempt, deadline, timeoutMs, ran });
      if (!(error instanceof PenstockError)) {
        return error;
      }
      const wait = (call.retries ?? settings.retries).waitMs(error, attempt, repeatable);
      if (wait === undefined || now() + wait >= deadline) {
        throw error;
      }
      ran ||= error.mayHaveRun;
      span?.retried(error, wait);
      await sleep(wait, call.signal);
    }
  }

  /** Send it once. Gives the reply of a 2xx or what went wrong; rejects when the caller's signal is aborted. */
  async #attempt(
    request: Outgoing,
    { signal }: Call,
    requestId: string,
    fields: Record<string, string>,
    { attempt, deadline, timeoutMs, ran }: { attempt: number; deadline: number; timeoutMs: number; ran: boolean },
  ): Promise<Reply | PenstockError> {
    const { settings } = this;
    // What an attempt before has done is not undone by the failure of this one.
    const about = { requestId, attempts: attempt, ...(ran && { mayHaveRun: true }) };
    signal?.throwIfAborted();
    const permit = settings.permits.take(deadline, signal);
    if (permit !== true && !(await permit)) {
      const text = `no place among requestsMax within ${timeoutMs} ms`;
      return new TimedOutError(text, { ...about, attempts: attempt - 1 });
    }
    const controller = new AbortController();
    const leave = follow(signal, controller);
    let late = false;
    const stop = at(deadline + GRACE_MS, () => {
      late = true;
      controller.abort();
    });
    const limit = deadline === Infinity ? {} : { "X-Request-Timeout-Ms": timeoutField(deadline - now()) };
    try {
      const init = this.#init(request, { ...fields, ...limit }, requestId, controller.signal);
      // Not every fetch ends when its signal says so: Node's may wait for ever for a body that cannot be unpacked.
      const answer = settings.fetch(settings.address.urlOf(request.target), init).then(whole);
      const reply = await unlessAborted(answer, controller.signal);
      return reply.status >= 200 && reply.status <= 299 ? reply : refusal(reply, about);
    } catch (thrown) {
      signal?.throwIfAborted();
      return late
        ? new TimedOutError(`no answer within ${timeoutMs} ms`, { ...about, mayHaveRun: true, cause: thrown })
        : failure(thrown, about);
    } finally {
      stop();
      leave();
      settings.permits.give();
    }
  }

  #init(request: Outgoing, fields: Record<string, string>, requestId: string, signal: AbortSignal): RequestInit {
    const headers: Record<string, string> = {
      ...this.settings.fields,
      Accept: request.accept ?? "application/json",
      ...(request.contentType ? { "Content-Type": request.contentType } : {}),
      "X-Request-Id": requestId,
      ...request.fields,
      ...fields,
    };
    // No route of Penstock redirects or takes cookies. Nothing is said of caches: fetch would then tell the server
    // not to use its own. No answer of a Penstock says that a browser may keep it.
    const manners = { redirect: "manual", credentials: "omit" } as const;
    return {
      method: request.method,
      headers,
      signal,
      ...manners,
      ...(request.body !== undefined && { body: request.body }),
    };
  }
}

// What fetch wants to be told of a body that is a stream; TypeScript's library does not know it yet.
const HALF_DUPLEX = { duplex: "half" } as RequestInit;

function follow(signal: AbortSignal | undefined, controller: AbortController): () => void {
  if (signal === undefined) {
    return () => {};
  }
  const aborted = (): void => controller.abort(signal.reason);
  if (signal.aborted) {
    aborted();
  }
  signal.addEventListener("abort", aborted, { once: true });
  return () => signal.removeEventListener("abort", aborted);
}

function timeoutField(leftMs: number): string {
  return String(Math.min(Math.max(Math.ceil(leftMs), 1), TIMEOUT_MS_MAX));
}

function traceOf(span: Span | undefined): Record<string, string> {
  const parent = span?.traceparent();
  return parent ? { traceparent: parent } : {};
}

function fieldsOf(call: Call): Record<string, string> {
  const fields: Record<string, string> = {};
  if (call.timeoutMs !== undefined && !(call.timeoutMs > 0)) {
    throw new ArgumentError(`a timeout of ${call.timeoutMs} ms: it must be more than 0`);
  }
  if (call.priority !== undefined) {
    if (!PRIORITIES.includes(call.priority)) {
      throw new ArgumentError(`priority ${JSON.stringify(call.priority)}: it is one of ${PRIORITIES.join(", ")}`);
    }
    fields["X-Request-Priority"] = call.priority;
  }
  if (call.receipt) {
    fields["X-Penstock-Receipt"] = "true";
  }
  if (call.reproducible) {
    fields["X-Penstock-Reproducible"] = "true";
  }
  return fields;
}

/** The route of a target: what stands for a name is one word for all names. */
function routeOf(target: string): string {
  const route: string[] = [];
  // A name may be a word of a route, too: what stands for one says nothing of what follows.
  for (const part of (target.split("?")[0] ?? "").split("/")) {
    route.push(PLACES.get(route.at(-1) ?? "") ?? part);
  }
  return route.join("/");
}

/** Give the error that a reply with another status than 2xx stands for. */
export function refusal(reply: Reply, about: About): PenstockError {
  const problem = problemOf(reply);
  const said = problem["detail"];
  const silent = `an answer with status ${reply.status} that says no more`;
  // A browser shows nothing of a redirect, not even its status.
  if (reply.status < 400) {
    const detail = `an answer with status ${reply.status}, which no route of Penstock has: is the address right?`;
    return new ProtocolError(detail, { ...about, mayHaveRun: true });
  }
  return refused(String(problem["code"] ?? ""), reply.status, said ? String(said) : silent, {
    ...about,
    requestId: String(problem["request_id"] || about.requestId),
    title: problem["title"] === undefined ? "" : String(problem["title"]),
    retryAfterMs: retryAfter(reply.headers.get("retry-after")),
    fields: fieldProblems(problem["errors"]),
  });
}

/** Give the error that an entry of a batch's errors stands for. */
export function rowRefusal(entry: Record<string, unknown>, requestId: string): PenstockError {
  const { code, status, detail, errors } = entry;
  const about = { requestId, attempts: 1, fields: fieldProblems(errors) };
  return refused(String(code ?? ""), Number(status ?? 500), String(detail ?? ""), about);
}

function refused(code: string, status: number, detail: string, about: Refusal): RefusedError {
  const Kind = CLASSES.get(code) ?? (status < 500 ? ClientError : ServerError);
  const { title, ...rest } = about;
  // The catalogue's title is always the same; what came counts for codes that this version does not know.
  return new Kind(detail, { ...rest, code, status, ...(Kind.problem === undefined && title ? { title } : {}) });
}

function fieldProblems(errors: unknown): readonly FieldProblem[] {
  return Array.isArray(errors) ? errors.filter((entry) => typeof entry === "object" && entry !== null) : [];
}

function problemOf(reply: Reply): Record<string, unknown> {
  const kind = (reply.headers.get("content-type") ?? "").split(";")[0]?.trim().toLowerCase();
  if (kind !== "application/problem+json" && kind !== "application/json") {
    return {};
  }
  try {
    const problem: unknown = JSON.parse(textOf(reply));
    return typeof problem === "object" && problem !== null ? (problem as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function retryAfter(text: string | null): number | undefined {
  const seconds = text === null || text.trim() === "" ? Number.NaN : Number(text);
  // Anything else is a date, which Penstock never sends.
  return seconds >= 0 && seconds < Infinity ? seconds * 1000 : undefined;
}
