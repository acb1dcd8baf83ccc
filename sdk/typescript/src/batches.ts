/** Many rows: cut into chunks, each a request, and an error for each row that failed. */

import { readOutputs } from "./binary.js";
import { type Call, type Core, rowRefusal } from "./core.js";
import { ArgumentError, ClientError, PenstockError } from "./errors.js";
import { fitted, type Tensors } from "./fitting.js";
import { fromJson, holdsNamedFloats, toJson, type Value, withFloats } from "./json.js";
import { fromMsgpack, toMsgpack } from "./msgpack.js";
import {
  checkNames,
  type Encoding,
  holdsArray,
  idOf,
  noEncoding,
  type Predictor,
  readAs,
  type Values,
} from "./predicting.js";
import { BodyTooLargeError, RequestTimeoutError, TooManyRequestsError } from "./problems.js";
import { BatchResult, blanked, type Column, failedChunk, putTogether } from "./results.js";
import type { Tensor } from "./tensor.js";
import { type Reply, textOf } from "./transport.js";

// Together with its answer a chunk stays well below what any model's limit on bodies can be.
const CHUNK_BYTES_MAX = 4 * 1024 * 1024;

/** Rows one after the other, as a program has them. */
export type Rows = Iterable<unknown> | AsyncIterable<unknown>;

/** Some rows: a list of them, or a tensor for each input. */
export interface Chunk {
  readonly first: number;
  readonly rows: number;
  readonly listed?: readonly unknown[];
  readonly tensors?: Tensors;
}

/** The rows of a batch as chunks. `total` is undefined when only the last one tells. */
export interface Source {
  readonly total: number | undefined;
  /** With `ended` aborted no more rows are taken. */
  chunks(ended: AbortSignal): AsyncIterable<Chunk> | Iterable<Chunk>;
}

/** What a batch is asked with. */
export interface BatchCall {
  readonly model: string;
  readonly version: string | undefined;
  readonly encoding: Encoding;
  readonly call: Call;
}

/** Makes requests of chunks and reads their answers. */
export class Batches {
  readonly #core: Core;
  readonly #predictor: Predictor;

  constructor(core: Core, predictor: Predictor) {
    this.#core = core;
    this.#predictor = predictor;
  }

  /** Give rows as chunks: typed arrays are asked after, because their rows are as long as the model has them. */
  async source(rows: unknown, { model, version, encoding, call }: BatchCall, chunkRows: number): Promise<Source> {
    checkNames(model, version);
    if (!["auto", "json", "msgpack", "binary"].includes(encoding)) {
      throw noEncoding(encoding);
    }
    checkChunkRows(chunkRows);
    if (holdsArray(rows)) {
      const tensors = fitted(rows, await this.#predictor.schema(model, version, call), false, false);
      return encoding === "auto" || encoding === "binary"
        ? tensorSource(tensors, chunkRows)
        : listSource(unstacked(tensors), chunkRows);
    }
    if (encoding === "binary") {
      const listed = await everyRow(rows);
      return tensorSource(
        fitted(stacked(listed), await this.#predictor.schema(model, version, call), false),
        chunkRows,
      );
    }
    return listSource(iterable(rows), chunkRows);
  }

  /** Predict a chunk; rejects only with what every other chunk would meet, too. */
  async predict(batch: BatchCall, chunk: Chunk): Promise<BatchResult> {
    try {
      return await (chunk.tensors === undefined ? this.#listed(batch, chunk) : this.#columns(batch, chunk));
    } catch (error) {
      if (error instanceof BodyTooLargeError) {
        return this.#halves(batch, chunk, error);
      }
      const everybodys = error instanceof ClientError || error instanceof ArgumentError;
      const anothers = error instanceof RequestTimeoutError || error instanceof TooManyRequestsError;
      if (!(error instanceof PenstockError) || chunk.first === 0 || (everybodys && !anothers)) {
        throw error;
      }
      return failedChunk(batch.model, chunk.first, chunk.rows, error);
    }
  }

  /** More than the model takes at a time: once more in two parts. It was refused, so nothing runs twice. */
  async #halves(batch: BatchCall, chunk: Chunk, error: PenstockError): Promise<BatchResult> {
    if (chunk.rows === 1) {
      return failedChunk(batch.model, chunk.first, 1, error);
    }
    const middle = chunk.rows >> 1;
    const first = await this.predict(batch, part(chunk, 0, middle));
    const second = await this.predict(batch, part(chunk, middle, chunk.rows));
    return putTogether(batch.model, [first, second]);
  }

  async #listed({ model, version, encoding, call }: BatchCall, chunk: Chunk): Promise<BatchResult> {
    const packed = encoding === "msgpack";
    const media = packed ? "application/msgpack" : "application/json";
    const document = { model, inputs: chunk.listed, version };
    const body = packed ? toMsgpack(document) : toJson(document);
    const sent = { method: "POST", target: "/predict/batch", body, contentType: media, accept: media } as const;
    const reply = await this.#core.send(sent, call);
    const text = packed ? "" : readAs(reply, () => textOf(reply));
    const answer = readAs(reply, () => answered(packed ? fromMsgpack(reply.body) : fromJson(text), chunk, reply));
    let { rows } = answer;
    if (holdsNamedFloats(text)) {
      const schema = await this.#predictor.schema(model, answer.version, call);
      rows = rows.map((row) => (row === null ? null : withFloats(row, schema)));
    }
    const names = Object.keys(rows.find((row) => row !== null) ?? {});
    const columns = names.map((name): [string, Column] => [name, rows.map((row) => (row?.[name] ?? null) as Value)]);
    const outputs = Object.fromEntries(columns);
    return new BatchResult(model, [answer.version], chunk.first, chunk.rows, outputs, answer.errors);
  }

  async #columns({ model, version, call }: BatchCall, chunk: Chunk): Promise<BatchResult> {
    const inputs = Object.fromEntries(chunk.tensors as Tensors);
    const reply = await this.#predictor.infer(inputs, model, version, call, false);
    return readAs(reply, () => {
      const { head, outputs } = readOutputs(reply);
      const errors = errorsOf(head.parameters?.row_errors ?? [], chunk, reply);
      for (const tensor of outputs.values()) {
        if (tensor.shape[0] !== chunk.rows) {
          throw new RangeError(`${tensor.shape[0]} answers to ${chunk.rows} rows`);
        }
        blanked(
          tensor,
          [...errors.keys()].map((row) => row - chunk.first),
        );
      }
      const columns: Record<string, Column> = Object.fromEntries(outputs);
      return new BatchResult(model, [head.model_version], chunk.first, chunk.rows, columns, errors);
    });
  }
}

interface Answer {
  readonly version: string;
  readonly rows: readonly (Values | null)[];
  readonly errors: Map<number, PenstockError>;
}

function answered(document: unknown, chunk: Chunk, reply: Reply): Answer {
  const { version, outputs, errors } = document as Record<string, unknown>;
  if (typeof version !== "string" || !Array.isArray(outputs) || outputs.length !== chunk.rows) {
    throw new TypeError(`no version, or no answer to each of ${chunk.rows} rows`);
  }
  const listed = (errors ?? []) as Record<string, unknown>[];
  return { version, rows: outputs, errors: errorsOf(listed, chunk, reply) };
}

function errorsOf(entries: Record<string, unknown>[], chunk: Chunk, reply: Reply): Map<number, PenstockError> {
  const requestId = idOf(reply);
  return new Map(entries.map((entry) => [chunk.first + Number(entry["row"]), rowRefusal(entry, requestId)]));
}

function part(chunk: Chunk, begin: number, end: number): Chunk {
  const { first, listed, tensors } = chunk;
  return {
    first: first + begin,
    rows: end - begin,
    ...(listed && { listed: listed.slice(begin, end) }),
    ...(tensors && { tensors: sliced(tensors, begin, end) }),
  };
}

function sliced(tensors: Tensors, begin: number, end: number): Tensors {
  return new Map([...tensors].map(([name, tensor]): [string, Tensor] => [name, tensor.slice(begin, end)]));
}

function tensorSource(tensors: Tensors, chunkRows: number): Source {
  const all = [...tensors.values()];
  const total = all[0]?.shape[0] ?? 0;
  const bytes = all.reduce((sum, { data }) => sum + ("byteLength" in data ? data.byteLength : 0), 0);
  const size = Math.max(1, Math.min(chunkRows, Math.floor(CHUNK_BYTES_MAX / Math.max(bytes / Math.max(total, 1), 1))));
  return {
    total,
    *chunks() {
      for (let first = 0; first < total; first += size) {
        const end = Math.min(first + size, total);
        yield { first, rows: end - first, tensors: sliced(tensors, first, end) };
      }
    },
  };
}

function listSource(rows: Rows, chunkRows: number): Source {
  return {
    total: Array.isArray(rows) ? rows.length : undefined,
    async *chunks(ended) {
      let first = 0;
      let listed: unknown[] = [];
      for await (const row of rows) {
        if (ended.aborted) {
          return;
        }
        listed.push(row);
        if (listed.length === chunkRows) {
          yield { first, rows: listed.length, listed };
          first += listed.length;
          listed = [];
        }
      }
      if (listed.length > 0) {
        yield { first, rows: listed.length, listed };
      }
    },
  };
}

/** ArgumentError for what is no number of rows. */
export function checkChunkRows(chunkRows: number): void {
  if (!(Number.isInteger(chunkRows) && chunkRows >= 1)) {
    throw new ArgumentError(`chunkRows is ${chunkRows}: it is a whole number, 1 or more`);
  }
}

/** ArgumentError for what is no rows one after the other. */
export function iterable(rows: unknown): Rows {
  const walks = typeof rows === "object" && rows !== null && (Symbol.iterator in rows || Symbol.asyncIterator in rows);
  if (!walks) {
    throw new ArgumentError("a batch is rows: an iterable of them, or an array or tensor for each input");
  }
  return rows as Rows;
}

async function everyRow(rows: unknown): Promise<unknown[]> {
  const listed: unknown[] = [];
  for await (const row of iterable(rows)) {
    listed.push(row);
  }
  return listed;
}

/** Rows as columns: an array of values for each input where they are objects. */
function stacked(listed: unknown[]): unknown {
  const [row] = listed;
  if (typeof row !== "object" || row === null || Array.isArray(row)) {
    return listed;
  }
  const names = Object.keys(row);
  return Object.fromEntries(names.map((name) => [name, listed.map((one) => (one as Record<string, unknown>)[name])]));
}

function unstacked(tensors: Tensors): unknown[] {
  const rows = [...tensors.values()][0]?.shape[0] ?? 0;
  return Array.from({ length: rows }, (_, row) =>
    Object.fromEntries([...tensors].map(([name, tensor]) => [name, tensor.at(row).toNested()])),
  );
}
