/** The door to fetch: a request out, a reply or an error of ours back. */

import {
  type About,
  ConnectError,
  ConnectionLostError,
  ProtocolError,
  TimedOutError,
  type TransportError,
} from "./errors.js";

/** What the SDK needs of fetch. */
export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

/** An answer, read whole. */
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Uint8Array<ArrayBuffer>;
}

// No connection means that nothing was sent: Node says which call of the system failed.
const BEFORE_SENDING = new Set(["connect", "getaddrinfo"]);
const BEFORE_SENDING_CODES = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"]);
// What Node says of a port that no fetch may use.
const BLOCKED = "bad port";
const TIMES_OUT = new Set(["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT"]);
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The text of a reply; TypeError when it is no UTF-8. */
export function textOf(reply: Reply): string {
  return decoder.decode(reply.body);
}

/** Read a whole answer. */
export async function whole(response: Response): Promise<Reply> {
  return { status: response.status, headers: response.headers, body: new Uint8Array(await response.arrayBuffer()) };
}

interface Thrown {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly syscall?: unknown;
  readonly message?: unknown;
  readonly cause?: unknown;
  readonly errors?: unknown;
}

/** Give the error that what fetch has thrown stands for. */
export function failure(thrown: unknown, about: About): TransportError {
  const causes = causesOf(thrown);
  const codes = causes.map((cause) => String(cause.code ?? ""));
  const reason = causes.at(-1)?.message || codes.at(-1) || String(thrown);
  const described = { ...about, cause: thrown };
  // Where an address stands for several, the connection to each of them has failed.
  const last = causes.at(-1);
  const unsent =
    BEFORE_SENDING.has(String(last?.syscall)) || BEFORE_SENDING_CODES.has(String(last?.code)) || reason === BLOCKED;
  if (unsent) {
    return new ConnectError(`no connection: ${reason}`, described);
  }
  if (codes.some((code) => TIMES_OUT.has(code))) {
    return new TimedOutError(`fetch waited long enough: ${reason}`, { ...described, mayHaveRun: true });
  }
  if (last?.name === "HTTPParserError") {
    return new ProtocolError(`what answers does not speak HTTP: ${reason}`, { ...described, mayHaveRun: true });
  }
  const browsers = causes.length <= 1 && codes.every((code) => !code);
  const text = browsers
    ? `no answer, and the browser does not say why: the server is not there, does not allow this page (cors_origins), or the connection was lost (${reason})`
    : `the connection ended before the answer did: ${reason}`;
  return new ConnectionLostError(text, { ...described, mayHaveRun: true });
}

/** What fetch has thrown, its cause, that one's cause and so on. */
function causesOf(thrown: unknown): Thrown[] {
  const causes: Thrown[] = [];
  let next = thrown;
  while (typeof next === "object" && next !== null && causes.length < 8) {
    const one = next as Thrown;
    causes.push(one);
    next = one.cause ?? (Array.isArray(one.errors) ? one.errors[0] : undefined);
  }
  return causes;
}
