/** Binary tensors of the Open Inference Protocol: a head in JSON, then the tensors' own bytes. */

import { type DType, datatypeOf, dtypeOf, FORMS, fromHalf, LITTLE_ENDIAN, type TypedArray, toHalf } from "./dtypes.js";
import { ArgumentError } from "./errors.js";
import type { Tensors } from "./fitting.js";
import { Tensor } from "./tensor.js";
import type { Reply } from "./transport.js";

const LENGTH = "inference-header-content-length";
const encoder = new TextEncoder();
// A string may begin with what is a byte order mark elsewhere.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A request's body, and the length of its head. */
export interface BinaryBody {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly headBytes: number;
}

/** Write tensors, rows in front. With `rowErrors` a row that fails does not fail the others. */
export function binaryBody(tensors: Tensors, rowErrors: boolean): BinaryBody {
  const buffers = [...tensors.values()].map(bytesOf);
  const inputs = [...tensors].map(([name, tensor], at) => ({
    name,
    datatype: datatypeOf(tensor.dtype),
    shape: tensor.shape,
    parameters: { binary_data_size: (buffers[at] as Uint8Array).length },
  }));
  const parameters = { binary_data_output: true, ...(rowErrors ? { row_errors: true } : {}) };
  const head = encoder.encode(JSON.stringify({ parameters, inputs }));
  const bytes = new Uint8Array(buffers.reduce((sum, buffer) => sum + buffer.length, head.length));
  bytes.set(head);
  let end = head.length;
  for (const buffer of buffers) {
    bytes.set(buffer, end);
    end += buffer.length;
  }
  return { bytes, headBytes: head.length };
}

/** A tensor's bytes, little-endian; strings with their lengths in front, as the protocol has them. */
export function bytesOf(tensor: Tensor): Uint8Array {
  if (tensor.dtype === "str") {
    return stringBytes(tensor.data as (string | Uint8Array)[]);
  }
  if (tensor.dtype === "float16") {
    return viewed(Uint16Array.from(tensor.data as Float32Array, toHalf));
  }
  return viewed(tensor.data as TypedArray);
}

function viewed(data: TypedArray): Uint8Array {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return LITTLE_ENDIAN ? bytes : swapped(bytes.slice(), data.BYTES_PER_ELEMENT);
}

function swapped(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
  for (let at = 0; at < bytes.length; at += size) {
    bytes.subarray(at, at + size).reverse();
  }
  return bytes;
}

function stringBytes(texts: readonly (string | Uint8Array)[]): Uint8Array {
  const encoded = texts.map((text) => (typeof text === "string" ? encoder.encode(checked(text)) : text));
  const bytes = new Uint8Array(encoded.reduce((sum, text) => sum + 4 + text.length, 0));
  const view = new DataView(bytes.buffer);
  let end = 0;
  for (const text of encoded) {
    view.setUint32(end, text.length, true);
    bytes.set(text, end + 4);
    end += 4 + text.length;
  }
  return bytes;
}

/** The text itself; ArgumentError where UTF-8 has no form for it. */
export function checked(text: string): string {
  // With the flag u, half a surrogate pair is a character of its own; a whole pair is not.
  if (/\p{Surrogate}/u.test(text)) {
    throw new ArgumentError("a string holds half a surrogate pair, which UTF-8 has no form for");
  }
  return text;
}

/** What a reply's head says beyond its tensors. */
export interface BinaryHead {
  readonly model_name: string;
  readonly model_version: string;
  readonly parameters?: { row_errors?: Record<string, unknown>[] };
}

interface Described {
  readonly name: string;
  readonly datatype: string;
  readonly shape: number[];
  readonly parameters: { binary_data_size: number };
}

/** Read a reply: its head, and a tensor for each output, rows in front. TypeError or RangeError when it is no such. */
export function readOutputs(reply: Reply): { head: BinaryHead; outputs: Tensors } {
  const { body } = reply;
  let end = Number(reply.headers.get(LENGTH) ?? -1);
  if (!(end > 0 && end <= body.length)) {
    throw new RangeError(`a head of ${end} bytes in a reply of ${body.length}`);
  }
  const head = JSON.parse(decoder.decode(body.subarray(0, end))) as BinaryHead & { outputs: Described[] };
  if (typeof head.model_name !== "string" || typeof head.model_version !== "string") {
    throw new TypeError("a reply that names no model");
  }
  const outputs: Tensors = new Map();
  for (const { name, datatype, shape, parameters } of head.outputs) {
    const size = parameters.binary_data_size;
    const dtype = dtypeOf(datatype);
    if (dtype === undefined || !(size >= 0 && end + size <= body.length)) {
      throw new RangeError(`an output of ${size} bytes of ${datatype}`);
    }
    outputs.set(name, readTensor(body.subarray(end, end + size), dtype, shape));
    end += size;
  }
  return { head, outputs };
}

function readTensor(bytes: Uint8Array<ArrayBuffer>, dtype: DType, shape: readonly number[]): Tensor {
  if (dtype === "str") {
    return new Tensor(readStrings(bytes), shape);
  }
  const form = FORMS[dtype];
  const length = bytes.length / form.bytes;
  // Typed arrays begin at multiples of their size, so others are copied.
  const aligned = bytes.byteOffset % form.bytes === 0 && LITTLE_ENDIAN;
  const own = aligned ? bytes : LITTLE_ENDIAN ? bytes.slice() : swapped(bytes.slice(), form.bytes);
  if (dtype === "float16") {
    const halves = new Uint16Array(own.buffer, own.byteOffset, length);
    return new Tensor(Float32Array.from(halves, fromHalf), shape, dtype);
  }
  return new Tensor(new form.holder(own.buffer, own.byteOffset, length), shape, dtype);
}

function readStrings(bytes: Uint8Array): (string | Uint8Array)[] {
  const texts: (string | Uint8Array)[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at, true);
    if (at + 4 + length > bytes.length) {
      throw new RangeError(`a string of ${length} bytes in a tensor that ends before it`);
    }
    const text = bytes.slice(at + 4, at + 4 + length);
    at += 4 + length;
    try {
      texts.push(decoder.decode(text));
    } catch {
      texts.push(text);
    }
  }
  return texts;
}
