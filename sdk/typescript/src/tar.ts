/** Files as one archive (POSIX ustar, with pax names where those are longer or not ASCII). */

import { ArgumentError } from "./errors.js";

/** Files by their names, with slashes between folders. */
export type Files = Readonly<Record<string, string | Uint8Array<ArrayBuffer> | Blob>>;

const BLOCK = 512;
const NAME_BYTES = 100;
// What eleven octal digits say.
const SIZE_MAX = 8 ** 11 - 1;
const encoder = new TextEncoder();

/** Pack files. Those that are blobs, as a page has them, are read only when they are sent. */
export function packed(files: Files): Blob {
  const parts: BlobPart[] = [];
  for (const [name, content] of Object.entries(files).sort(([one], [other]) => (one < other ? -1 : 1))) {
    if (!name || name.startsWith("/") || name.split("/").includes("..")) {
      throw new ArgumentError(`${JSON.stringify(name)} is no name of a file in an archive`);
    }
    const data = typeof content === "string" ? encoder.encode(content) : content;
    const size = data instanceof Blob ? data.size : data.length;
    if (size > SIZE_MAX) {
      throw new ArgumentError(`${name} has ${size} bytes, which is more than an archive of this kind holds`);
    }
    const short = encoder.encode(name).length <= NAME_BYTES && /^[ -~]*$/.test(name);
    if (!short) {
      const record = paxRecord("path", name);
      parts.push(header("pax", record.length, "x"), record, filler(record.length));
    }
    parts.push(header(short ? name : "long", size, "0"), data, filler(size));
  }
  parts.push(new Uint8Array(2 * BLOCK));
  return new Blob(parts);
}

function header(name: string, size: number, kind: "0" | "x"): Uint8Array<ArrayBuffer> {
  const block = new Uint8Array(BLOCK);
  const put = (text: string, at: number): void => block.set(encoder.encode(text), at);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, "0")}\0`;
  put(name, 0);
  put(octal(0o644, 7), 100);
  put(octal(0, 7), 108);
  put(octal(0, 7), 116);
  put(octal(size, 11), 124);
  put(octal(0, 11), 136);
  // The sum is that of the block with blanks in place of the sum.
  put(" ".repeat(8), 148);
  put(kind, 156);
  put("ustar\u000000", 257);
  const sum = block.reduce((one, other) => one + other, 0);
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return block;
}

/** A record begins with its own length, whose digits count. */
function paxRecord(key: string, value: string): Uint8Array<ArrayBuffer> {
  const rest = encoder.encode(` ${key}=${value}\n`);
  let length = rest.length;
  while (length !== rest.length + String(length).length) {
    length = rest.length + String(length).length;
  }
  const record = new Uint8Array(length);
  record.set(encoder.encode(String(length)));
  record.set(rest, length - rest.length);
  return record;
}

function filler(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array((BLOCK - (size % BLOCK)) % BLOCK);
}
