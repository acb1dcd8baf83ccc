/** Rows that are streamed through requests, and their answers as lines of JSON or as events (docs/batches.md). */

import { checkChunkRows, type Rows } from "./batches.js";
import { type Call, type Core, type Opened, rowRefusal } from "./core.js";
import { LineCutter } from "./cutting.js";
import { type About, ArgumentError, ConnectionLostError, type PenstockError, ProtocolError } from "./errors.js";
import { EventParser } from "./events.js";
import { fromJson, holdsNamedFloats, withFloats } from "./json.js";
import { checkNames, type Predictor, quoted, type Values } from "./predicting.js";
import { LineBody, RowLines } from "./row-lines.js";
import { failure } from "./transport.js";
import { unlessAborted } from "./waiting.js";

const MEDIA_TYPES = { lines: "application/x-ndjson", events: "text/event-stream" } as const;
// In UTF-8 below what the server reads ahead, so that the end of a chunk never waits for its answers to be read.
const CHUNK_CHARS = 128 * 1024;

/** How the answers of a stream travel. */
export type StreamAs = keyof typeof MEDIA_TYPES;

/** What became of a row: its outputs, or its error. */
export type RowAnswer<Outputs extends object = Values> =
  | { readonly row: number; readonly outputs: Outputs; readonly error?: undefined }
  | { readonly row: number; readonly outputs?: undefined; readonly error: PenstockError };

/** Whether fetch sends a body while it is made. Browsers do not over HTTP/1.1, and read no answer before its end. */
export function streamsRequests(): boolean {
  const { process, document } = globalThis as { process?: { versions?: { node?: string } }; document?: object };
  return process?.versions?.node !== undefined && document === undefined;
}

/** What a stream is asked with. */
export interface StreamCall {
  readonly model: string;
  readonly version: string | undefined;
  readonly as: StreamAs;
  readonly call: Call;
}

/** Send rows as they come and give what becomes of each, in order. What is thrown ends the request. */
export async function* streamed(
  core: Core,
  predictor: Predictor,
  rows: Rows,
  ask: StreamCall,
): AsyncGenerator<RowAnswer, void, undefined> {
  check(ask);
  const lines = new RowLines(rows);
  const body = new LineBody(lines);
  try {
    yield* answersTo(core, predictor, lines, ask, body.stream, 0);
  } catch (error) {
    ask.call.signal?.throwIfAborted();
    throw body.failed === undefined ? error : body.failed.reason;
  } finally {
    await lines.end();
  }
}

/** Send rows in chunks, one after the other, and give what becomes of each as it comes. */
export async function* streamedInChunks(
  core: Core,
  predictor: Predictor,
  rows: Rows,
  ask: StreamCall,
  chunkRows: number,
): AsyncGenerator<RowAnswer, void, undefined> {
  check(ask);
  checkChunkRows(chunkRows);
  const { signal } = ask.call;
  const lines = new RowLines(rows);
  try {
    for (;;) {
      const first = lines.rows;
      const coming = lines.piece(chunkRows, CHUNK_CHARS);
      const chunk = await (signal === undefined ? coming : unlessAborted(coming, signal));
      if (chunk === "") {
        return;
      }
      yield* answersTo(core, predictor, lines, ask, chunk, first);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    await lines.end();
  }
}

function check({ model, version, as }: StreamCall): void {
  checkNames(model, version);
  if (!Object.hasOwn(MEDIA_TYPES, as)) {
    throw new ArgumentError(`as is ${JSON.stringify(as)}: it is "lines" or "events"`);
  }
}

/** Make one request, of the rows from `first` on. */
async function* answersTo(
  core: Core,
  predictor: Predictor,
  lines: RowLines,
  { model, version, as, call }: StreamCall,
  body: string | ReadableStream<Uint8Array>,
  first: number,
): AsyncGenerator<RowAnswer, void, undefined> {
  const query = version === undefined ? "" : `&version=${quoted(version)}`;
  const target = `/predict/batch?model=${quoted(model)}${query}`;
  const types = { contentType: MEDIA_TYPES.lines, accept: MEDIA_TYPES[as] };
  let opened: Opened | undefined;
  let row = first;
  try {
    opened = await core.open({ method: "POST", target, body, ...types }, call);
    for await (const line of as === "events" ? linesOfEvents(opened) : linesOf(opened)) {
      yield await answerOf(line, row, opened.requestId, predictor, model, version, call);
      row += 1;
    }
    if (row !== lines.rows) {
      throw new ProtocolError(`${row - first} answers to ${lines.rows - first} rows`, about(opened));
    }
  } finally {
    opened?.done();
  }
}

async function* linesOf(opened: Opened): AsyncGenerator<string, void, undefined> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const cutter = new LineCutter("\n");
  for await (const piece of piecesOf(opened)) {
    yield* cutter.cut(decoded(decoder, piece, opened));
  }
  yield* cutter.cut(decoded(decoder, undefined, opened));
  if (cutter.rest) {
    yield cutter.rest;
  }
}

/** Give the lines that events hold, which have to end with the event that says how many they were. */
async function* linesOfEvents(opened: Opened): AsyncGenerator<string, void, undefined> {
  const type = opened.response.headers.get("content-type") ?? "nothing";
  if (!type.toLowerCase().startsWith(MEDIA_TYPES.events)) {
    throw new ProtocolError(`${MEDIA_TYPES.events} was asked for, and ${type} is answered`, about(opened));
  }
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const parser = new EventParser();
  let rows = 0;
  let said: number | undefined;
  // What is begun at the end, be it a character, is no part of an event.
  try {
    for await (const piece of piecesOf(opened)) {
      for (const { event, data } of parser.parse(decoded(decoder, piece, opened))) {
        if (event === "message") {
          yield data;
          rows += 1;
        } else if (event === "end") {
          said = Number(/"rows": ?(\d+)/.exec(data)?.[1]);
        }
      }
    }
  } catch (error) {
    // Behind a whole answer nothing matters any more.
    if (said !== rows) {
      throw error;
    }
  }
  if (said === undefined) {
    const text = `the answer ended after ${rows} rows, without the event that ends it: something has cut it on its way`;
    throw new ConnectionLostError(text, about(opened));
  }
  if (said !== rows) {
    throw new ProtocolError(`${rows} rows came, and the event that ends them says ${said}`, about(opened));
  }
}

async function* piecesOf({ response, requestId, signal }: Opened): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (;;) {
    const { done, value } = await unlessAborted(reader.read(), signal).catch((thrown: unknown) => {
      throw failure(thrown, { requestId, attempts: 1 });
    });
    if (done) {
      return;
    }
    yield value;
  }
}

function about({ requestId }: Opened): About {
  return { requestId, attempts: 1, mayHaveRun: true };
}

/** Decode a piece, or what is left where there is none. */
function decoded(decoder: TextDecoder, piece: Uint8Array | undefined, opened: Opened): string {
  try {
    return decoder.decode(piece, { stream: piece !== undefined });
  } catch (cause) {
    throw new ProtocolError("what answers is no Penstock: its answer is no UTF-8", { ...about(opened), cause });
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
