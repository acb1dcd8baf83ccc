/** Where a server is: http://HOST:PORT or https://HOST:PORT, with a path before its routes if need be. */

import { ArgumentError } from "./errors.js";

/** What a URL says. */
export class Address {
  readonly #base: string;

  /** Read a URL; ArgumentError when it is none. */
  constructor(readonly url: string) {
    const wanted = "write http://HOST:PORT or https://HOST:PORT";
    let parts: URL;
    try {
      parts = new URL(url);
    } catch {
      throw new ArgumentError(`${JSON.stringify(url)} is no address of a server: ${wanted}`);
    }
    if (parts.username || parts.password) {
      // It is not shown: errors are logged.
      throw new ArgumentError("the address of the server holds a name or password: keys are given as `key`");
    }
    const other = parts.search || parts.hash;
    if (!["http:", "https:"].includes(parts.protocol) || other) {
      throw new ArgumentError(`${JSON.stringify(url)} is no address of a server: ${wanted}`);
    }
    this.#base = `${parts.origin}${parts.pathname.replace(/\/+$/, "")}`;
  }

  /** The URL of a target. */
  urlOf(target: string): string {
    return this.#base + target;
  }
}
