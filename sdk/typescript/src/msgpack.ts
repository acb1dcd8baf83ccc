/** Plain values as msgpack, and back: what the server takes and sends of it, which is all but extensions. */

import { checked } from "./binary.js";
import { arrayDType, isBytes } from "./dtypes.js";
import { ArgumentError } from "./errors.js";
import { dated, members } from "./json.js";
import { Tensor } from "./tensor.js";

// A number with its head, or the head of anything else.
const SMALL_BYTES = 9;
const encoder = new TextEncoder();
// A string may begin with what is a byte order mark elsewhere.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Encode a document. */
export function toMsgpack(document: unknown): Uint8Array<ArrayBuffer> {
  const writer = new Writer();
  try {
    writer.value(document);
  } catch (error) {
    if (error instanceof RangeError) {
      throw new ArgumentError("the inputs have no form in msgpack: they are too deep, or hold themselves");
    }
    throw error;
  }
  return writer.bytes.slice(0, writer.end);
}

class Writer {
  bytes = new Uint8Array(256);
  end = 0;
  #view = new DataView(this.bytes.buffer);

  value(value: unknown): void {
    this.#reserve(SMALL_BYTES);
    if (typeof value === "string") {
      this.#text(value);
    } else if (typeof value === "number") {
      this.#number(value);
    } else if (typeof value === "bigint") {
      this.#whole(value);
    } else if (typeof value === "boolean") {
      this.#byte(value ? 0xc3 : 0xc2);
    } else if (value === null) {
      this.#byte(0xc0);
    } else if (typeof value === "object") {
      this.#composed(value);
    } else {
      throw new ArgumentError(`a value of type ${typeof value} has no form in msgpack`);
    }
  }

  #number(value: number): void {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) {
      this.#whole(BigInt(value));
    } else {
      this.#byte(0xcb);
      this.#view.setFloat64(this.#room(8), value);
    }
  }

  #composed(value: object): void {
    const date = dated(value);
    if (date !== undefined) {
      this.#text(date);
    } else if (value instanceof Tensor) {
      this.value(value.toNested());
    } else if (isBytes(value)) {
      this.#head(value.length, undefined, [0xc4, 0xc5, 0xc6]);
      this.#raw(value);
    } else if (Array.isArray(value) || arrayDType(value) !== undefined) {
      const items = Array.from(value as ArrayLike<unknown>);
      this.#head(items.length, [0x90, 16], [undefined, 0xdc, 0xdd]);
      for (const item of items) {
        this.value(item);
      }
    } else {
      const entries = members(value);
      this.#head(entries.length, [0x80, 16], [undefined, 0xde, 0xdf]);
      for (const [name, item] of entries) {
        this.#text(name);
        this.value(item);
      }
    }
  }

  #text(text: string): void {
    const bytes = encoder.encode(checked(text));
    this.#head(bytes.length, [0xa0, 32], [0xd9, 0xda, 0xdb]);
    this.#raw(bytes);
  }

  /** A length: in the head itself where it is less than `small[1]`, else behind it in 1, 2 or 4 bytes. */
  #head(length: number, small: [number, number] | undefined, heads: readonly (number | undefined)[]): void {
    const [one, two, four] = heads;
    this.#reserve(SMALL_BYTES);
    if (small !== undefined && length < small[1]) {
      this.#byte(small[0] | length);
    } else if (one !== undefined && length < 0x100) {
      this.#byte(one);
      this.#byte(length);
    } else if (length < 0x1_0000) {
      this.#byte(two as number);
      this.#view.setUint16(this.#room(2), length);
    } else {
      this.#byte(four as number);
      this.#view.setUint32(this.#room(4), length);
    }
  }

  #whole(value: bigint): void {
    const small = Number(value);
    if (value >= -32n && value < 128n) {
      this.#byte(small & 0xff);
    } else if (value >= 0n && value < 0x100n) {
      this.#byte(0xcc);
      this.#byte(small);
    } else if (value >= 0n && value < 0x1_0000n) {
      this.#byte(0xcd);
      this.#view.setUint16(this.#room(2), small);
    } else if (value >= 0n && value < 0x1_0000_0000n) {
      this.#byte(0xce);
      this.#view.setUint32(this.#room(4), small);
    } else if (value >= 0n && value < 1n << 64n) {
      this.#byte(0xcf);
      this.#view.setBigUint64(this.#room(8), value);
    } else if (value < 0n && value >= -0x80n) {
      this.#byte(0xd0);
      this.#byte(small & 0xff);
    } else if (value < 0n && value >= -0x8000n) {
      this.#byte(0xd1);
      this.#view.setInt16(this.#room(2), small);
    } else if (value < 0n && value >= -0x8000_0000n) {
      this.#byte(0xd2);
      this.#view.setInt32(this.#room(4), small);
    } else if (value < 0n && value >= -(1n << 63n)) {
      this.#byte(0xd3);
      this.#view.setBigInt64(this.#room(8), value);
    } else {
      throw new ArgumentError(`${value} is beyond the 64 bits of msgpack`);
    }
  }

  #byte(byte: number): void {
    this.bytes[this.#room(1)] = byte;
  }

  #raw(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.bytes.set(bytes, this.#room(bytes.length));
  }

  /** Give the place for bytes that room was made for. */
  #room(count: number): number {
    const at = this.end;
    this.end += count;
    return at;
  }

  /** Make room. It puts others in the place of the array and its view, so nothing may have taken hold of them. */
  #reserve(count: number): void {
    if (this.end + count > this.bytes.length) {
      const grown = new Uint8Array(Math.max(2 * this.bytes.length, this.end + count));
      grown.set(this.bytes.subarray(0, this.end));
      this.bytes = grown;
      this.#view = new DataView(grown.buffer);
    }
  }
}

/** Decode a reply; whole numbers that a number cannot hold become bigints. RangeError or TypeError when it is none. */
export function fromMsgpack(bytes: Uint8Array): unknown {
  const reader = new Reader(bytes);
  const value = reader.value();
  if (reader.at !== bytes.length) {
    throw new RangeError(`${bytes.length - reader.at} bytes behind the value`);
  }
  return value;
}

class Reader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  value(): unknown {
    const head = this.#view.getUint8(this.#skip(1));
    if (head < 0x80 || head >= 0xe0) {
      return head < 0x80 ? head : head - 0x100;
    }
    if (head < 0x90) {
      return this.#map(head & 0x0f);
    }
    if (head < 0xa0) {
      return this.#array(head & 0x0f);
    }
    return head < 0xc0 ? this.#text(head & 0x1f) : this.#marked(head);
  }

  #marked(head: number): unknown {
    const view = this.#view;
    switch (head) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return head === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.#raw(this.#length(head - 0xc4)).slice();
      case 0xca:
        return view.getFloat32(this.#skip(4));
      case 0xcb:
        return view.getFloat64(this.#skip(8));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.#length(head - 0xcc);
      case 0xcf:
        return narrowed(view.getBigUint64(this.#skip(8)));
      case 0xd0:
        return view.getInt8(this.#skip(1));
      case 0xd1:
        return view.getInt16(this.#skip(2));
      case 0xd2:
        return view.getInt32(this.#skip(4));
      case 0xd3:
        return narrowed(view.getBigInt64(this.#skip(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.#text(this.#length(head - 0xd9));
      case 0xdc:
      case 0xdd:
        return this.#array(this.#length(head - 0xdc + 1));
      case 0xde:
      case 0xdf:
        return this.#map(this.#length(head - 0xde + 1));
      default:
        throw new TypeError(`a head of 0x${head.toString(16)}, which the server never sends`);
    }
  }

  /** A whole number of 1, 2 or 4 bytes: 2 to the `power`. */
  #length(power: number): number {
    const at = this.#skip(2 ** power);
    const view = this.#view;
    return power === 0 ? view.getUint8(at) : power === 1 ? view.getUint16(at) : view.getUint32(at);
  }

  #text(length: number): string {
    return decoder.decode(this.#raw(length));
  }

  #raw(length: number): Uint8Array {
    const at = this.#skip(length);
    return this.#bytes.subarray(at, at + length);
  }

  #array(length: number): unknown[] {
    const items: unknown[] = [];
    for (let count = 0; count < length; count += 1) {
      items.push(this.value());
    }
    return items;
  }

  #map(length: number): Record<string, unknown> {
    const entries: [string, unknown][] = [];
    for (let count = 0; count < length; count += 1) {
      entries.push([String(this.value()), this.value()]);
    }
    return Object.fromEntries(entries);
  }

  #skip(count: number): number {
    const at = this.at;
    if (at + count > this.#bytes.length) {
      throw new RangeError(`it ends in the middle of a value, at byte ${this.#bytes.length}`);
    }
    this.at += count;
    return at;
  }
}

function narrowed(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
