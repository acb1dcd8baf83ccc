/** The TypeScript client of Penstock: `(await new Client("http://127.0.0.1:8000").predict("digits", row)).output`. */

export type * from "./admin.js";
export type { Rows } from "./batches.js";
export {
  type ArrayInputs,
  type BatchOptions,
  Client,
  type ClientOptions,
  type PredictOptions,
  type StreamOptions,
} from "./client.js";
export type { CallOptions, Priority } from "./core.js";
export type { DataOf, DType, TypedArray } from "./dtypes.js";
export {
  ArgumentError,
  BatchError,
  ClientError,
  ConnectError,
  ConnectionLostError,
  type FieldProblem,
  PenstockError,
  type Problem,
  ProtocolError,
  RefusedError,
  ServerError,
  TimedOutError,
  TransportError,
} from "./errors.js";
export { type ServerSentEvent, serverSentEvents } from "./events.js";
export type { Hook, Span } from "./hooks.js";
export type { Value } from "./json.js";
export type { RowAnswer, StreamAs } from "./lines.js";
export { type Encoding, Prediction, type Receipt, type TensorOutputs, type Values } from "./predicting.js";
export type { ProblemCode } from "./problems.js";
export { BatchResult, type Column, type Progress } from "./results.js";
export type { RetryOptions } from "./retrying.js";
export { type ModelSchema, TensorSpec } from "./schema.js";
export type { Files } from "./tar.js";
export { type Nested, type Scalar, Tensor } from "./tensor.js";
export type { Fetch } from "./transport.js";
export { VERSION } from "./version.js";
