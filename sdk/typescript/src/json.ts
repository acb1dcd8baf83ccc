/** Plain values as JSON, and back, without a number that changes on the way. */

import { checked } from "./binary.js";
import { arrayDType, isBytes } from "./dtypes.js";
import { ArgumentError } from "./errors.js";
import type { ModelSchema } from "./schema.js";
import { Tensor } from "./tensor.js";

/** A value of an answer: whole numbers that a number cannot hold are bigints. */
export type Value = null | boolean | number | bigint | string | Uint8Array | Value[] | { [name: string]: Value };

const NAMED: Readonly<Record<string, number>> = { NaN: Number.NaN, Infinity: Infinity, "-Infinity": -Infinity };

/** Encode a document. Numbers that are not finite become the strings that the server takes for them, bytes base64. */
export function toJson(document: unknown): string {
  try {
    return written(document);
  } catch (error) {
    if (error instanceof RangeError) {
      throw new ArgumentError("the inputs have no form in JSON: they are too deep, or hold themselves");
    }
    throw error;
  }
}

function written(value: unknown): string {
  switch (typeof value) {
    case "string":
      return JSON.stringify(checked(value));
    case "number":
      // String(-0) would be 0.
      return Number.isFinite(value) ? (Object.is(value, -0) ? "-0.0" : String(value)) : `"${value}"`;
    case "boolean":
    case "bigint":
      return String(value);
    case "object":
      return value === null ? "null" : composed(value);
    default:
      throw new ArgumentError(`a value of type ${typeof value} has no form in JSON`);
  }
}

function composed(value: object): string {
  if (Array.isArray(value)) {
    // Not map(), which passes over holes.
    return `[${Array.from(value, written).join(",")}]`;
  }
  const date = dated(value);
  if (date !== undefined || value instanceof Tensor) {
    return written(date ?? (value as Tensor).toNested());
  }
  if (isBytes(value)) {
    return `{"base64":"${base64(value)}"}`;
  }
  if (arrayDType(value) !== undefined) {
    return `[${Array.from(value as unknown as ArrayLike<unknown>, written).join(",")}]`;
  }
  return `{${members(value)
    .map(([name, item]) => `${written(name)}:${written(item)}`)
    .join(",")}}`;
}

/** The members of a plain object; ArgumentError for other objects. Members that are undefined count as missing. */
export function members(value: object): [string, unknown][] {
  const kind = Object.prototype.toString.call(value).slice(8, -1);
  if (kind !== "Object") {
    throw new ArgumentError(`a value of type ${kind} has no form on the wire`);
  }
  return Object.entries(value).filter(([, item]) => item !== undefined);
}

/** A date as ISO 8601 has it; undefined for anything else. */
export function dated(value: unknown): string | undefined {
  if (!(value instanceof Date)) {
    return undefined;
  }
  if (Number.isNaN(value.getTime())) {
    throw new ArgumentError("a date that is none has no form on the wire");
  }
  return value.toISOString();
}

function base64(bytes: Uint8Array): string {
  let text = "";
  // Some engines take no more arguments than this.
  for (let at = 0; at < bytes.length; at += 8192) {
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(text);
}

// Whole numbers of 16 digits or more; not the digits of a fraction or an exponent.
const LONG = /(?<![\d.+\-eE])-?\d{16,}(?![\d.eE])/g;
const MAY_BE_LONG = /(?<![\d.])\d{16,}(?![\d.eE])/;
// Strings of an answer may begin with anything, so those that begin like a marked number are marked, too.
const MARK = "\u0000";
const MARK_IN_JSON = "\\u0000";

/** Decode a reply; whole numbers that a number cannot hold become bigints. SyntaxError when it is no JSON. */
export function fromJson(text: string): unknown {
  if (!MAY_BE_LONG.test(text)) {
    return JSON.parse(text);
  }
  return JSON.parse(marked(text), (_, value: unknown) => {
    if (typeof value !== "string" || !value.startsWith(MARK)) {
      return value;
    }
    return value[1] === "n" ? BigInt(value.slice(2)) : value.slice(2);
  });
}

/** A document with its long numbers as strings. Not one pattern for all of it: a long string would be too much for it. */
function marked(text: string): string {
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    const quote = text.indexOf('"', at);
    const begin = quote < 0 ? text.length : quote;
    parts.push(text.slice(at, begin).replace(LONG, markedNumber));
    at = quote < 0 ? text.length : afterString(text, quote);
    const string = text.slice(begin, at);
    const isMarked = string.startsWith(`"${MARK_IN_JSON}`) && !isName(text, at);
    parts.push(isMarked ? `"${MARK_IN_JSON}s${string.slice(1)}` : string);
  }
  return parts.join("");
}

function markedNumber(digits: string): string {
  return Number.isSafeInteger(Number(digits)) ? digits : `"${MARK_IN_JSON}n${digits}"`;
}

/** Where the string that begins at `quote` has ended. */
function afterString(text: string, quote: number): number {
  for (let end = text.indexOf('"', quote + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text[end - 1 - escapes] === "\\") {
      escapes += 1;
    }
    if (escapes % 2 === 0) {
      return end + 1;
    }
  }
  return text.length;
}

function isName(text: string, end: number): boolean {
  let next = end;
  while (" \t\r\n".includes(text[next] ?? ":")) {
    next += 1;
  }
  return text[next] === ":";
}

/** Whether a reply may hold numbers that are not finite: as JSON has them, they are strings. */
export function holdsNamedFloats(text: string): boolean {
  return text.includes('"NaN"') || text.includes('Infinity"');
}

/** Make numbers of the strings that stand for some in outputs of floats; strings of other outputs stay. */
export function withFloats(outputs: Record<string, Value>, schema: ModelSchema): Record<string, Value> {
  const floats = new Set(schema.outputs.filter((spec) => spec.dtype.startsWith("float")).map((spec) => spec.name));
  const entries = Object.entries(outputs);
  return Object.fromEntries(entries.map(([name, value]) => [name, floats.has(name) ? unnamed(value) : value]));
}

function unnamed(value: Value): Value {
  if (Array.isArray(value)) {
    return value.map(unnamed);
  }
  return typeof value === "string" ? (NAMED[value] ?? value) : value;
}
