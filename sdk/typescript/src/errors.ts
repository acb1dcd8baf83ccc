/**
 * What can go wrong, as classes. Every one says which request it was about.
 *
 *     PenstockError
 *     ├── ArgumentError            what was asked cannot be put into a request
 *     ├── BatchError               rows of a batch failed, and throwForErrors() was called
 *     ├── RefusedError             the server answered, and the answer is a refusal
 *     │   ├── ClientError          4xx: one class for each code of the catalogue, such as InvalidInputError
 *     │   └── ServerError          5xx: likewise, such as QueueFullError
 *     └── TransportError           there is no answer
 *         ├── ConnectError         no connection; nothing was sent
 *         ├── ConnectionLostError  the connection ended before the answer did
 *         ├── ProtocolError        what came is no answer of a Penstock
 *         └── TimedOutError        the time that the call had is over
 *
 * The classes for codes lie in problems.ts. Names are written out, because minifiers change those of classes.
 */

/** What an error says beyond its text. */
export interface About {
  requestId?: string;
  attempts?: number;
  mayHaveRun?: boolean;
  cause?: unknown;
}

/** The root of all errors of this package. */
export class PenstockError extends Error {
  override readonly name: string = "PenstockError";
  /** What went wrong, for people. */
  readonly detail: string;
  /** The request's id, as the server's log and traces have it; empty when nothing was to be sent. */
  readonly requestId: string;
  /** How often the request was sent, or was tried to be. */
  readonly attempts: number;
  /** Whether the server may have run what was asked, although there is no answer that says so. */
  readonly mayHaveRun: boolean;

  constructor(detail: string, about: About = {}, words: readonly string[] = []) {
    const { requestId = "", attempts = 0, mayHaveRun = false } = about;
    const tried = attempts > 1 ? [`${attempts} attempts`] : [];
    const said = [...words, ...tried, ...(requestId ? [`request ${requestId}`] : [])].join(", ");
    super(said ? `${detail} (${said})` : detail, about.cause === undefined ? undefined : { cause: about.cause });
    this.detail = detail;
    this.requestId = requestId;
    this.attempts = attempts;
    this.mayHaveRun = mayHaveRun;
  }
}

/** What was asked cannot be put into a request. Nothing was sent. */
export class ArgumentError extends PenstockError {
  override readonly name: string = "ArgumentError";
}

/** An entry of the catalogue of errors. */
export interface Problem {
  readonly name: string;
  readonly code: string;
  readonly status: number;
  readonly title: string;
  readonly retryable: boolean;
  readonly mayHaveRun: boolean;
}

/** What is wrong with a field of a record. */
export interface FieldProblem {
  field: string;
  rule: string;
  detail: string;
}

/** What a refusal says beyond its text; `code` and `status` where they are others than those of its class. */
export interface Refusal extends About {
  code?: string;
  status?: number;
  title?: string;
  retryAfterMs?: number | undefined;
  fields?: readonly FieldProblem[];
}

/** The server answered with a problem. */
export class RefusedError extends PenstockError {
  /** The entry of the catalogue that the class stands for. */
  static readonly problem: Problem | undefined = undefined;
  override readonly name: string;
  /** The entry of the catalogue, such as "queue_full"; stable. Empty when the answer was none of Penstock's. */
  readonly code: string;
  /** The status of HTTP. */
  readonly status: number;
  /** The code in words, always the same for a code. */
  readonly title: string;
  /** Whether the request certainly did not run and may succeed later. */
  readonly retryable: boolean;
  /** In how many milliseconds, as the server says; undefined when it says nothing. */
  readonly retryAfterMs: number | undefined;
  /** What is wrong with fields of a record. */
  readonly fields: readonly FieldProblem[];

  constructor(detail: string, about: Refusal = {}) {
    const known = new.target.problem;
    const code = about.code ?? known?.code ?? "";
    const status = about.status ?? known?.status ?? 0;
    // What no entry stands for comes from something in between, or from a server that knows more than this version.
    const as = known !== undefined && known.code === code && known.status === status ? known : undefined;
    const mayHaveRun = about.mayHaveRun ?? as?.mayHaveRun ?? status >= 500;
    super(detail, { ...about, mayHaveRun }, [code ? `${code}, ${status}` : `status ${status}`]);
    this.name = known?.name ?? (status < 500 ? "ClientError" : "ServerError");
    this.code = code;
    this.status = status;
    this.title = about.title ?? as?.title ?? "";
    this.retryable = known?.retryable ?? false;
    this.retryAfterMs = about.retryAfterMs;
    this.fields = about.fields ?? [];
  }
}

/** 4xx: as it was sent, the request cannot be answered. */
export class ClientError extends RefusedError {}

/** 5xx: the server could not do what it was asked. */
export class ServerError extends RefusedError {}

/** There is no answer. */
export class TransportError extends PenstockError {
  override readonly name: string = "TransportError";

  constructor(detail: string, about: About = {}) {
    super(detail, about, [about.mayHaveRun ? "it may have run" : "it was not run"]);
  }
}

/** No connection could be made, so nothing was sent. */
export class ConnectError extends TransportError {
  override readonly name: string = "ConnectError";
}

/** The connection ended before the answer did. */
export class ConnectionLostError extends TransportError {
  override readonly name: string = "ConnectionLostError";
}

/** What came is not HTTP, or nothing that a Penstock would answer. */
export class ProtocolError extends TransportError {
  override readonly name: string = "ProtocolError";
}

/** The time that the call had is over. */
export class TimedOutError extends TransportError {
  override readonly name: string = "TimedOutError";
}

/** Rows of a batch failed; `result` has the answers of the others and the errors of these. */
export class BatchError extends PenstockError {
  override readonly name: string = "BatchError";
  readonly result: unknown;

  constructor(detail: string, result: unknown, about: About = {}) {
    super(detail, about);
    this.result = result;
  }
}
