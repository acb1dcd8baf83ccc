/** Client: the calls, for Node and browsers. */

import { Address } from "./address.js";
import { Keys, Models } from "./admin.js";
import { Batches, type Chunk, type Rows } from "./batches.js";
import { type CallOptions, Core, type Priority } from "./core.js";
import { ArgumentError } from "./errors.js";
import type { Hook } from "./hooks.js";
import { inOrder } from "./in-flight.js";
import type { Value } from "./json.js";
import { type RowAnswer, type StreamAs, streamed, streamedInChunks, streamsRequests } from "./lines.js";
import {
  type ArrayInput,
  type Encoding,
  type Prediction,
  Predictor,
  type TensorOutputs,
  type Values,
} from "./predicting.js";
import { type BatchResult, type Progress, putTogether, Watch } from "./results.js";
import { Retries, type RetryOptions } from "./retrying.js";
import { Routes, type Server } from "./routes.js";
import type { ModelSchema } from "./schema.js";
import { isArray, type Tensor } from "./tensor.js";
import type { Fetch } from "./transport.js";
import { VERSION } from "./version.js";
import { Permits } from "./waiting.js";

/** What a client is made with. */
export interface ClientOptions {
  /** The key to show. Without it PENSTOCK_API_KEY or PENSTOCK_KEY in Node, or none. */
  key?: string | undefined;
  /** Milliseconds that a call may take with all its attempts (60000); Infinity is as long as it takes. */
  timeoutMs?: number | undefined;
  /** How often a call is tried again that certainly did not run. */
  retries?: RetryOptions | undefined;
  /** Whether predictions may run twice, so that they are sent again also where they may have run. */
  repeatable?: boolean | undefined;
  /** Requests at a time (64); further ones wait. */
  requestsMax?: number | undefined;
  /** In place of the global fetch: one that goes through a proxy, or counts. */
  fetch?: Fetch | undefined;
  /** Is told of every call; see penstock-client/opentelemetry. */
  hook?: Hook | undefined;
}

/** What a prediction can say. */
export interface PredictOptions extends CallOptions {
  /** One of the model's versions, or "latest"; without it the one that answers. */
  version?: string | undefined;
  /** What travels; "auto" is "binary" for arrays and "json" for anything else. */
  encoding?: Encoding | undefined;
  /** Which of the model's rows go first; "normal" when nothing is said. */
  priority?: Priority | undefined;
  /** Whether to ask how the row fared; it is in the answer's `receipt`. */
  receipt?: boolean | undefined;
  /** Have it run so that equal inputs have equal answers, bit for bit. */
  reproducible?: boolean | undefined;
  /** In place of the client's. */
  repeatable?: boolean | undefined;
}

/** Options that have plain values answered, and those that have tensors answered. */
export type PlainOptions = PredictOptions & { encoding: "json" | "msgpack" };
export type BinaryOptions = PredictOptions & { encoding: "binary" };
export type AutoOptions = PredictOptions & { encoding?: "auto" | undefined };

/** Inputs that are arrays, or have one among them. */
export type ArrayInputs = ArrayInput | { readonly [name: string]: ArrayInput };

/** What a batch can say. `timeoutMs` is for each chunk. */
export interface BatchOptions extends CallOptions {
  /** One of the model's versions, or "latest"; without it the one that answers. */
  version?: string | undefined;
  /** What travels; "auto" is "binary" for arrays and "json" for anything else. */
  encoding?: Encoding | undefined;
  /** Rows of a request at most (1024). */
  chunkRows?: number | undefined;
  /** Requests at a time (4). */
  concurrency?: number | undefined;
  /** Is called after each chunk. */
  progress?: ((progress: Progress) => void) | undefined;
  /** Which of the model's rows go first; "batch" when nothing is said, behind single rows. */
  priority?: Priority | undefined;
  /** In place of the client's. */
  repeatable?: boolean | undefined;
}

/** What a stream of rows can say. `timeoutMs` is for each batch of rows that the server makes. */
export interface StreamOptions extends Omit<BatchOptions, "encoding" | "progress" | "requestId"> {
  /**
   * How answers travel: "lines", or server-sent "events", which proxies are less likely to hold back. In a page
   * "events" gives rows as they come, not a chunk of them.
   */
  as?: StreamAs | undefined;
}

/** Options that leave what travels to the rows. */
interface AutoOnly {
  encoding?: "auto" | undefined;
}

/** Parts of a batch as they come. */
export type Parts<Columns extends object> = AsyncGenerator<BatchResult<Columns>, void, undefined>;

/** Columns of plain values, and those of tensors. */
export type PlainColumns = Record<string, Value[]>;
export type TensorColumns = TensorOutputs;

/** Asks a Penstock. One client is for any number of calls at a time. */
export class Client {
  readonly #core: Core;
  readonly #predictor: Predictor;
  readonly #batches: Batches;
  readonly #routes: Routes;
  /** Where the server is. */
  readonly url: string;
  /** Registered models, their versions and aliases. */
  readonly models: Models;
  /** Keys to the server. */
  readonly keys: Keys;

  /** `url`: http://HOST:PORT or https://HOST:PORT. Without it PENSTOCK_URL in Node, the page's own server in a page. */
  constructor(url: string | undefined = undefined, options: ClientOptions = {}) {
    const address = new Address(url ?? usualUrl());
    const timeoutMs = options.timeoutMs ?? 60_000;
    const requestsMax = options.requestsMax ?? 64;
    if (!(timeoutMs > 0) || !(requestsMax >= 1)) {
      throw new ArgumentError(
        `timeoutMs ${timeoutMs}, requestsMax ${requestsMax}: the first is more than 0, the second 1 or more`,
      );
    }
    this.url = address.url;
    this.#core = new Core({
      address,
      fields: fieldsOf(options.key ?? environment("PENSTOCK_API_KEY") ?? environment("PENSTOCK_KEY")),
      fetch: options.fetch ?? ((target, init) => fetch(target, init)),
      timeoutMs,
      retries: new Retries(options.retries),
      repeatable: options.repeatable ?? false,
      hook: options.hook,
      permits: new Permits(requestsMax),
    });
    this.#predictor = new Predictor(this.#core);
    this.#batches = new Batches(this.#core, this.#predictor);
    this.#routes = new Routes(this.#core);
    this.models = new Models(this.#routes);
    this.keys = new Keys(this.#routes);
  }

  /**
   * Predict one row.
   *
   * @param model Its name.
   * @param inputs The row: a value for a model of one input, or an object of values by the inputs' names (a record).
   *     Values are numbers, strings and arrays of them, or typed arrays and tensors, which travel as their bytes.
   * @throws {PenstockError} See errors.ts. A signal that is aborted throws its reason.
   */
  predict<O extends object = Values>(model: string, inputs: unknown, options: PlainOptions): Promise<Prediction<O>>;
  predict<O extends object = TensorOutputs>(
    model: string,
    inputs: unknown,
    options: BinaryOptions,
  ): Promise<Prediction<O>>;
  predict<O extends object = TensorOutputs>(
    model: string,
    inputs: ArrayInputs,
    options?: AutoOptions,
  ): Promise<Prediction<O>>;
  predict<O extends object = Values>(model: string, inputs: unknown, options?: AutoOptions): Promise<Prediction<O>>;
  predict(model: string, inputs: unknown, options: PredictOptions = {}): Promise<unknown> {
    const { version, encoding = "auto", ...call } = options;
    return this.#predictor.predict(model, inputs, version, encoding, call);
  }

  /**
   * Predict many rows, in chunks. A row that fails fails alone: see the result's `errors`.
   *
   * @param rows An iterable of rows, each what predict() takes, async or not; or an array or tensor with the rows in
   *     front; or an object with one of these for each input.
   * @throws {PenstockError} What every row would meet, such as a model that is not there, and what befalls the first
   *     chunk.
   */
  predictBatch(
    model: string,
    rows: ArrayInputs,
    options?: BatchOptions & AutoOnly,
  ): Promise<BatchResult<TensorColumns>>;
  predictBatch(model: string, rows: Rows, options?: BatchOptions & AutoOnly): Promise<BatchResult<PlainColumns>>;
  predictBatch(model: string, rows: Rows | ArrayInputs, options: BatchOptions): Promise<BatchResult>;
  async predictBatch(model: string, rows: Rows | ArrayInputs, options: BatchOptions = {}): Promise<unknown> {
    const parts: BatchResult[] = [];
    for await (const part of this.#parts(model, rows, options)) {
      parts.push(part);
    }
    return putTogether(model, parts);
  }

  /**
   * Predict as predictBatch() does, and give the parts in their order as they come.
   *
   * No more than `concurrency` chunks are held at a time, so the rows may have no end. Who stops early ends what is
   * under way.
   */
  iterBatch(model: string, rows: ArrayInputs, options?: BatchOptions & AutoOnly): Parts<TensorColumns>;
  iterBatch(model: string, rows: Rows, options?: BatchOptions & AutoOnly): Parts<PlainColumns>;
  iterBatch(model: string, rows: Rows | ArrayInputs, options: BatchOptions): Parts<Record<string, Value[] | Tensor>>;
  iterBatch(model: string, rows: Rows | ArrayInputs, options: BatchOptions = {}): unknown {
    return this.#parts(model, rows, options);
  }

  async *#parts(model: string, rows: unknown, options: BatchOptions): AsyncGenerator<BatchResult, void, undefined> {
    const { version, encoding = "auto", chunkRows = 1024, concurrency = 4, progress, ...rest } = options;
    if (!(concurrency >= 1)) {
      throw new ArgumentError(`concurrency is ${concurrency}: it is 1 or more`);
    }
    const batch = { model, version, encoding, call: { ...rest, priority: rest.priority ?? "batch" } } as const;
    const source = await this.#batches.source(rows, batch, chunkRows);
    const watch = new Watch(progress, source.total);
    const predict = (chunk: Chunk, signal: AbortSignal): Promise<BatchResult> =>
      this.#batches.predict({ ...batch, call: { ...batch.call, signal } }, chunk);
    for await (const part of inOrder(predict, (ended) => source.chunks(ended), concurrency, rest.signal)) {
      watch.saw(part);
      yield part;
    }
  }

  /**
   * Predict rows as they come, and give what becomes of each as soon as it is known, in their order.
   *
   * In Node they go through one request, which is not sent again. A browser sends no request that is still being made,
   * so there they go in chunks: as "events" one after the other, which are not sent again either.
   */
  async *predictStream<O extends object = Values>(
    model: string,
    rows: Rows,
    options: StreamOptions = {},
  ): AsyncGenerator<RowAnswer<O>, void, undefined> {
    if (isArray(rows)) {
      throw new ArgumentError("a stream is rows one after the other: predictBatch() and iterBatch() take arrays");
    }
    const { version, chunkRows = 1024, concurrency, as = "lines", ...call } = options;
    const ask = { model, version, as, call };
    if (streamsRequests()) {
      yield* streamed(this.#core, this.#predictor, rows, ask) as AsyncGenerator<RowAnswer<O>>;
      return;
    }
    if (as !== "lines") {
      yield* streamedInChunks(this.#core, this.#predictor, rows, ask, chunkRows) as AsyncGenerator<RowAnswer<O>>;
      return;
    }
    for await (const part of this.#parts(model, rows, { ...options, encoding: "json" })) {
      for (let row = part.first; row < part.first + part.length; row += 1) {
        const error = part.errors.get(row);
        yield (error === undefined ? { row, outputs: part.at(row) } : { row, error }) as RowAnswer<O>;
      }
    }
  }

  /** Give what a model takes and gives. */
  schema(model: string, version?: string, options: CallOptions = {}): Promise<ModelSchema> {
    return this.#predictor.schema(model, version, options, true);
  }

  /** Whether the server is there. */
  live(options: CallOptions = {}): Promise<boolean> {
    return this.#routes.healthy("/health/live", options);
  }

  /** Whether the server is there and its models are loaded. */
  ready(options: CallOptions = {}): Promise<boolean> {
    return this.#routes.healthy("/health/ready", options);
  }

  /** Wait until the server is ready (60 s by default); TimedOutError when it is not by then. */
  waitReady(options: CallOptions = {}): Promise<void> {
    return this.#routes.untilReady(options);
  }

  /** Give the server's metrics, as Prometheus reads them. */
  metrics(options: CallOptions = {}): Promise<string> {
    return this.#routes.text("/metrics", options);
  }

  /** Give the server's name, version and extensions. */
  server(options: CallOptions = {}): Promise<Server> {
    return this.#routes.ask("GET", "/v2", undefined, options);
  }
}

interface Globals {
  readonly process?: {
    readonly env?: Readonly<Record<string, string | undefined>>;
    readonly versions?: { readonly node?: string };
  };
  readonly document?: object;
  readonly location?: { readonly origin?: string };
}

function environment(name: string): string | undefined {
  return (globalThis as Globals).process?.env?.[name] || undefined;
}

function usualUrl(): string {
  const { document, location } = globalThis as Globals;
  const page = document === undefined ? undefined : location?.origin;
  return environment("PENSTOCK_URL") ?? (page?.startsWith("http") ? page : "http://127.0.0.1:8000");
}

function fieldsOf(key: string | undefined): Record<string, string> {
  const fields: Record<string, string> = {};
  const node = (globalThis as Globals).process?.versions?.node;
  if (node !== undefined) {
    // A browser says what it is by itself.
    fields["User-Agent"] = `penstock-client/${VERSION} node/${node}`;
  }
  if (key !== undefined) {
    if (!/^[!-~]+$/.test(key)) {
      throw new ArgumentError("that is no key: a key is one word that begins with psk_");
    }
    fields["Authorization"] = `Bearer ${key}`;
  }
  return fields;
}
