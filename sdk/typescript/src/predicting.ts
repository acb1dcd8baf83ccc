/** One prediction: the request for it in each encoding, and what its answer means. */

import { binaryBody, bytesOf, checked, readOutputs } from "./binary.js";
import type { Call, Core } from "./core.js";
import { isBytes, type TypedArray } from "./dtypes.js";
import { ArgumentError, ProtocolError } from "./errors.js";
import { fitted } from "./fitting.js";
import { fromJson, holdsNamedFloats, toJson, type Value, withFloats } from "./json.js";
import { fromMsgpack, toMsgpack } from "./msgpack.js";
import { InvalidInputError } from "./problems.js";
import { type ModelSchema, sameSchema, schemaOf } from "./schema.js";
import { isArray, type Tensor } from "./tensor.js";
import { type Reply, textOf } from "./transport.js";

/** What travels: "auto" is "binary" for arrays and "json" for anything else. */
export type Encoding = "auto" | "json" | "msgpack" | "binary";

/** Plain values by the names of outputs. */
export type Values = Record<string, Value>;

/** Tensors by the names of outputs. */
export type TensorOutputs = Record<string, Tensor>;

const JSON_TYPE = "application/json";
const MSGPACK = "application/msgpack";
const OCTETS = "application/octet-stream";
const BINARY = `${OCTETS}, ${JSON_TYPE};q=0.5`;
// A program that makes up names must not fill the memory.
const SCHEMAS_MAX = 1000;

/** How a row fared, in the server's own words; docs/wire-format.md has them. */
export interface Receipt {
  readonly queueUs: number;
  readonly batchUs: number;
  readonly runUs: number;
  readonly batchRows: number;
  readonly padding: number;
  readonly sealed: string;
  readonly version: string;
  readonly instance: number;
}

/** An answer. `outputs` are tensors where the inputs were arrays, and plain values otherwise. */
export class Prediction<Outputs extends object = Values> {
  constructor(
    readonly model: string,
    readonly version: string,
    readonly outputs: Outputs,
    /** The request's id, as the server's log and traces have it. */
    readonly requestId: string,
    /** How the row fared, where that was asked for; answers from a cache have none. */
    readonly receipt: Receipt | undefined,
  ) {}

  /** The only output; ArgumentError when the model has several. */
  get output(): Outputs[keyof Outputs] {
    const found = Object.values(this.outputs);
    if (found.length !== 1) {
      const names = Object.keys(this.outputs).join(", ");
      throw new ArgumentError(`${this.model} has the outputs ${names}: name one of them`);
    }
    return found[0];
  }
}

/** Makes requests of predictions and reads their answers; remembers what models take. */
export class Predictor {
  readonly #core: Core;
  readonly #schemas = new Map<string, ModelSchema>();

  constructor(core: Core) {
    this.#core = core;
  }

  /** Predict one row. */
  async predict(
    model: string,
    inputs: unknown,
    version: string | undefined,
    encoding: Encoding,
    call: Call,
  ): Promise<Prediction<Values> | Prediction<TensorOutputs>> {
    checkNames(model, version);
    switch (encoding) {
      case "json":
        return this.#plain(model, inputs, version, call);
      case "msgpack":
        return this.#msgpack(model, inputs, version, call);
      case "binary":
        return this.#binary(model, inputs, version, call);
      case "auto":
        return holdsArray(inputs)
          ? this.#binary(model, inputs, version, call)
          : this.#plain(model, inputs, version, call);
      default:
        throw noEncoding(encoding);
    }
  }

  /** Give what a model takes; asked once, and `anew` when the server does not take what fits it. */
  async schema(model: string, version: string | undefined, call: Call, anew = false): Promise<ModelSchema> {
    checkNames(model, version);
    const key = JSON.stringify([model, version]);
    const known = this.#schemas.get(key);
    if (known !== undefined && !anew) {
      return known;
    }
    const { timeoutMs, signal } = call;
    const reply = await this.#core.send({ method: "GET", target: modelTarget(model, version) }, { timeoutMs, signal });
    const schema = readAs(reply, () => schemaOf(JSON.parse(textOf(reply))));
    if (this.#schemas.size >= SCHEMAS_MAX) {
      this.#schemas.clear();
    }
    this.#schemas.set(key, schema);
    return schema;
  }

  /**
   * Send tensors as they lie.
   *
   * @param inputs A row, or rows where not `one`; then a row that fails has an entry in the answer's `row_errors`.
   */
  async infer(inputs: unknown, model: string, version: string | undefined, call: Call, one: boolean): Promise<Reply> {
    const schema = await this.schema(model, version, call);
    try {
      return await this.#infer(inputs, schema, version, call, one);
    } catch (error) {
      if (!(error instanceof ArgumentError || error instanceof InvalidInputError)) {
        throw error;
      }
      // Another version may answer by now. What was refused did not run, so it can be tried as that one wants it.
      const changed = await this.schema(model, version, call, true);
      if (sameSchema(changed, schema)) {
        throw error;
      }
      return this.#infer(inputs, changed, version, call, one);
    }
  }

  #infer(inputs: unknown, schema: ModelSchema, version: string | undefined, call: Call, one: boolean): Promise<Reply> {
    const tensors = fitted(inputs, schema, one);
    if (one) {
      for (const [name, tensor] of tensors) {
        tensors.set(name, tensor.reshape([1, ...tensor.shape]));
      }
    }
    const { bytes, headBytes } = binaryBody(tensors, !one);
    const fields = { "Inference-Header-Content-Length": String(headBytes) };
    const target = `${modelTarget(schema.name, version)}/infer`;
    return this.#core.send({ method: "POST", target, body: bytes, contentType: OCTETS, accept: BINARY, fields }, call);
  }

  async #plain(model: string, inputs: unknown, version: string | undefined, call: Call): Promise<Prediction<Values>> {
    const given = holdsNumbers(inputs) ? await this.#listed(model, inputs, version, call) : inputs;
    const body = toJson({ model, inputs: required(given), version });
    const sent = { method: "POST", target: "/predict", body, contentType: JSON_TYPE, accept: JSON_TYPE } as const;
    const reply = await this.#core.send(sent, call);
    const text = readAs(reply, () => textOf(reply));
    const prediction = readAs(reply, () => answered(fromJson(text), reply, call));
    if (!holdsNamedFloats(text)) {
      return prediction;
    }
    const schema = await this.schema(model, prediction.version, call);
    const { version: by, requestId, receipt } = prediction;
    return new Prediction(prediction.model, by, withFloats(prediction.outputs, schema), requestId, receipt);
  }

  async #msgpack(model: string, inputs: unknown, version: string | undefined, call: Call): Promise<Prediction<Values>> {
    const given = holdsNumbers(inputs) ? await this.#bins(model, inputs, version, call) : inputs;
    const body = toMsgpack({ model, inputs: required(given), version });
    const sent = { method: "POST", target: "/predict", body, contentType: MSGPACK, accept: MSGPACK } as const;
    const reply = await this.#core.send(sent, call);
    return readAs(reply, () => answered(fromMsgpack(reply.body), reply, call));
  }

  async #binary(
    model: string,
    inputs: unknown,
    version: string | undefined,
    call: Call,
  ): Promise<Prediction<TensorOutputs>> {
    const reply = await this.infer(inputs, model, version, call, true);
    return readAs(reply, () => {
      const { head, outputs } = readOutputs(reply);
      const rows = Object.fromEntries([...outputs].map(([name, tensor]) => [name, tensor.at(0)]));
      return new Prediction(head.model_name, head.model_version, rows, idOf(reply), receiptOf(reply, call));
    });
  }

  /** Arrays as arrays within arrays, in the model's own shapes and types. */
  async #listed(model: string, inputs: unknown, version: string | undefined, call: Call): Promise<unknown> {
    const tensors = fitted(inputs, await this.schema(model, version, call), true);
    return Object.fromEntries([...tensors].map(([name, tensor]) => [name, tensor.toNested()]));
  }

  /** A bin of each tensor of numbers; the server reads it as the tensor's bytes. */
  async #bins(model: string, inputs: unknown, version: string | undefined, call: Call): Promise<unknown> {
    const tensors = fitted(inputs, await this.schema(model, version, call), true);
    const entries = [...tensors].map(([name, one]) => [name, one.dtype === "str" ? one.toNested() : bytesOf(one)]);
    return Object.fromEntries(entries);
  }
}

function required(inputs: unknown): unknown {
  if (inputs === undefined) {
    throw new ArgumentError("there are no inputs");
  }
  return inputs;
}

function answered(answer: unknown, reply: Reply, call: Call): Prediction<Values> {
  const { model, version, outputs } = answer as Record<string, unknown>;
  if (typeof model !== "string" || typeof version !== "string" || typeof outputs !== "object" || outputs === null) {
    throw new TypeError("it has no model, version and outputs");
  }
  return new Prediction(model, version, outputs as Values, idOf(reply), receiptOf(reply, call));
}

/** The path of a model, or of one of its versions, in the Open Inference Protocol. */
export function modelTarget(model: string, version?: string | undefined): string {
  const path = `/v2/models/${quoted(model)}`;
  return version === undefined ? path : `${path}/versions/${quoted(version)}`;
}

/** A name as a part of a path; ArgumentError for those that every URL takes for something else, or cannot hold. */
export function quoted(name: string): string {
  if (name === "." || name === ".." || name === "") {
    throw new ArgumentError(`${JSON.stringify(name)} is no name`);
  }
  return encodeURIComponent(checked(name));
}

/** ArgumentError when they are no strings: 1 and "1" would be different versions to a server. */
export function checkNames(model: unknown, version: unknown): void {
  if (typeof model !== "string" || !(version === undefined || typeof version === "string")) {
    const given = `model ${JSON.stringify(model)}, version ${JSON.stringify(version)}`;
    throw new ArgumentError(`${given}: names and versions are strings`);
  }
}

/** The error for an encoding that there is not. */
export function noEncoding(encoding: unknown): ArgumentError {
  return new ArgumentError(`encoding ${JSON.stringify(encoding)}: it is auto, json, msgpack or binary`);
}

/** Whether inputs are arrays, or some of them are. */
export function holdsArray(inputs: unknown): boolean {
  return isArray(inputs) || valuesOf(inputs).some(isArray);
}

/** Whether inputs are arrays of anything but bytes, which JSON and msgpack have forms for. */
function holdsNumbers(inputs: unknown): boolean {
  return [inputs, ...valuesOf(inputs)].some((value) => isArray(value) && !isBytes(value));
}

function valuesOf(inputs: unknown): unknown[] {
  // What gives rows may have arrays of its own to make them of.
  const plain =
    typeof inputs === "object" && inputs !== null && !(Symbol.iterator in inputs || Symbol.asyncIterator in inputs);
  return plain && !isArray(inputs) ? Object.values(inputs) : [];
}

/** What a request's caller has it called. */
export function idOf(reply: Reply): string {
  return reply.headers.get("x-request-id") ?? "";
}

function receiptOf(reply: Reply, call: Call): Receipt | undefined {
  const said = (name: string): string => reply.headers.get(`x-penstock-${name}`) ?? "";
  if (!call.receipt || !said("queue-us")) {
    return undefined;
  }
  return {
    queueUs: Number(said("queue-us")),
    batchUs: Number(said("batch-us")),
    runUs: Number(said("run-us")),
    batchRows: Number(said("batch-rows")),
    padding: Number(said("padding")),
    sealed: said("sealed"),
    version: said("model-version"),
    instance: Number(said("instance")),
  };
}

/** Read a 2xx; ProtocolError when it holds something else than such an answer does. */
export function readAs<T>(reply: Reply, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const text = `what answers is no Penstock: its answer cannot be read (${error})`;
    throw new ProtocolError(text, { requestId: idOf(reply), attempts: 1, mayHaveRun: true, cause: error });
  }
}

/** A value of inputs that is an array. */
export type ArrayInput = TypedArray | Tensor;
