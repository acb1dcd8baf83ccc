/** Rows that are streamed through one request, a line of JSON each way (docs/batches.md). */

import { iterable, type Rows } from "./batches.js";
import { type Call, type Core, type Opened, rowRefusal } from "./core.js";
import { type PenstockError, ProtocolError } from "./errors.js";
import { fromJson, holdsNamedFloats, toJson, withFloats } from "./json.js";
import { checkNames, type Predictor, quoted, type Values } from "./predicting.js";
import { failure } from "./transport.js";
import { unlessAborted } from "./waiting.js";

const NDJSON = "application/x-ndjson";
// As many bytes as go out together where the rows are there already.
const PIECE_BYTES = 16_384;

/** What became of a row: its outputs, or its error. */
export type RowAnswer<Outputs extends object = Values> =
  | { readonly row: number; readonly outputs: Outputs; readonly error?: undefined }
  | { readonly row: number; readonly outputs?: undefined; readonly error: PenstockError };

/** Whether fetch sends a body while it is made. Browsers do not over HTTP/1.1, and read no answer before its end. */
export function streamsRequests(): boolean {
  const { process, document } = globalThis as { process?: { versions?: { node?: string } }; document?: object };
  return process?.versions?.node !== undefined && document === undefined;
}

/** Send rows as they come and give what becomes of each, in order. What is thrown ends the request. */
export async function* streamed(
  core: Core,
  predictor: Predictor,
  model: string,
  version: string | undefined,
  rows: Rows,
  call: Call,
): AsyncGenerator<RowAnswer, void, undefined> {
  checkNames(model, version);
  const query = version === undefined ? "" : `&version=${quoted(version)}`;
  const body = new LineBody(iterable(rows));
  const target = `/predict/batch?model=${quoted(model)}${query}`;
  const request = { method: "POST", target, body: body.stream, contentType: NDJSON, accept: NDJSON } as const;
  let opened: Opened | undefined;
  let answered = 0;
  try {
    opened = await core.open(request, call);
    for await (const line of linesOf(opened)) {
      yield await answerOf(line, answered, opened.requestId, predictor, model, version, call);
      answered += 1;
    }
    if (body.failed === undefined && answered !== body.sent) {
      const text = `${answered} answers to ${body.sent} rows`;
      throw new ProtocolError(text, { requestId: opened.requestId, attempts: 1, mayHaveRun: true });
    }
  } catch (error) {
    call.signal?.throwIfAborted();
    throw body.failed === undefined ? error : body.failed.reason;
  } finally {
    opened?.done();
    await body.end();
  }
}

/** Rows as lines of JSON. */
class LineBody {
  readonly stream: ReadableStream<Uint8Array>;
  /** What the rows, or their encoding, have thrown. */
  failed: { readonly reason: unknown } | undefined;
  sent = 0;
  readonly #rows: Iterator<unknown> | AsyncIterator<unknown>;
  readonly #ready: boolean;
  #ended = false;
  #asking = false;

  constructor(rows: Rows) {
    this.#ready = !(Symbol.asyncIterator in rows);
    this.#rows = Symbol.asyncIterator in rows ? rows[Symbol.asyncIterator]() : rows[Symbol.iterator]();
    const encoder = new TextEncoder();
    this.stream = new ReadableStream({
      pull: async (controller) => {
        try {
          const piece = await this.#piece();
          if (piece) {
            controller.enqueue(encoder.encode(piece));
          }
          if (this.#ended) {
            controller.close();
          }
        } catch (reason) {
          this.failed = { reason };
          controller.error(reason);
        }
      },
      cancel: () => this.end(),
    });
  }

  /** Tell the rows' iterator that no more are wanted. */
  async end(): Promise<void> {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    const left = (async () => this.#rows.return?.())();
    if (this.#asking) {
      // Iterators that still work on a row may never hear it, so nobody waits for them.
      left.catch(() => {});
    } else {
      await left;
    }
  }

  async #piece(): Promise<string> {
    let piece = "";
    do {
      const next = this.#rows.next();
      this.#asking = true;
      const { done, value } = this.#ready ? (next as IteratorResult<unknown>) : await next;
      this.#asking = false;
      if (done) {
        this.#ended = true;
        break;
      }
      piece += `{"inputs":${toJson(value)}}\n`;
      this.sent += 1;
    } while (this.#ready && piece.length < PIECE_BYTES);
    return piece;
  }
}

async function* linesOf({ response, requestId, signal }: Opened): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  // Pieces of a line are put together once, at its end: a line may be as long as an answer.
  let begun: string[] = [];
  for (;;) {
    const { done, value } = await unlessAborted(reader.read(), signal).catch((thrown: unknown) => {
      throw failure(thrown, { requestId, attempts: 1 });
    });
    const [rest = "", ...others] = decoded(decoder, value, done, requestId).split("\n");
    begun.push(rest);
    for (const other of others) {
      yield begun.join("");
      begun = [other];
    }
    if (done) {
      const last = begun.join("");
      if (last) {
        yield last;
      }
      return;
    }
  }
}

function decoded(decoder: TextDecoder, piece: Uint8Array | undefined, done: boolean, requestId: string): string {
  try {
    return decoder.decode(piece, { stream: !done });
  } catch (cause) {
    const about = { requestId, attempts: 1, mayHaveRun: true, cause };
    throw new ProtocolError("what answers is no Penstock: its answer is no UTF-8", about);
  }
}

async function answerOf(
  line: string,
  row: number,
  requestId: string,
  predictor: Predictor,
  model: string,
  version: string | undefined,
  call: Call,
): Promise<RowAnswer> {
  let document: { outputs?: Values; error?: Record<string, unknown> };
  try {
    document = fromJson(line) as typeof document;
    if (!isObject(document) || !(isObject(document.outputs) || isObject(document.error))) {
      throw new TypeError("a line with neither outputs nor an error");
    }
  } catch (cause) {
    const about = { requestId, attempts: 1, mayHaveRun: true, cause };
    throw new ProtocolError(`what answers is no Penstock: row ${row} cannot be read (${cause})`, about);
  }
  const { outputs, error } = document;
  if (outputs === undefined) {
    return { row, error: rowRefusal(error ?? {}, requestId) };
  }
  return holdsNamedFloats(line)
    ? { row, outputs: withFloats(outputs, await predictor.schema(model, version, { signal: call.signal })) }
    : { row, outputs };
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}
