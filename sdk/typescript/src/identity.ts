/** Request ids: short, unlike any other program's. */

import { ArgumentError } from "./errors.js";

// What the server takes; anything else would be replaced by an id that we did not know.
const VALID = /^[!#-[\]-~]{1,128}$/;

const prefix = Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => byte.toString(16).padStart(2, "0"));
const begin = `${prefix.join("")}-`;
let count = 0;

/** Give a new id. */
export function nextId(): string {
  count += 1;
  return begin + count;
}

/** Give an id that a caller has chosen; ArgumentError when the server would not take it. */
export function checkedId(text: string): string {
  if (typeof text !== "string" || !VALID.test(text)) {
    const rule = "1 to 128 visible ASCII characters, no quotes, no backslash";
    throw new ArgumentError(`${JSON.stringify(text)} is no request id: ${rule}`);
  }
  return text;
}
