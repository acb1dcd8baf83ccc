/** Whether a request is sent again, and when: only what certainly did not run, unless the caller says otherwise. */

import { ArgumentError, type PenstockError, ProtocolError, RefusedError, TransportError } from "./errors.js";

/** How often and how patiently a call is tried again. */
export interface RetryOptions {
  /** Times that a request is sent at most (4); 1 sends nothing again. */
  attemptsMax?: number | undefined;
  /** The first wait is between half of this (50) and this, each further one twice as long. */
  backoffMs?: number | undefined;
  /** No wait is longer (2000), but for one that the server asks for with Retry-After. */
  backoffMaxMs?: number | undefined;
  /** Where the server asks for a longer wait (30000), its refusal is thrown at once. */
  retryAfterMaxMs?: number | undefined;
}

const DEFAULTS = { attemptsMax: 4, backoffMs: 50, backoffMaxMs: 2000, retryAfterMaxMs: 30_000 };

/** Decides what is sent again. */
export class Retries {
  readonly #options: typeof DEFAULTS;

  constructor(options: RetryOptions = {}) {
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    const made: typeof DEFAULTS = { ...DEFAULTS, ...Object.fromEntries(given) };
    const { attemptsMax, ...waits } = made;
    if (!(attemptsMax >= 1) || !Object.values(waits).every((wait) => wait >= 0)) {
      throw new ArgumentError(`retries ${JSON.stringify(options)}: attemptsMax is 1 or more, and no wait is negative`);
    }
    this.#options = made;
  }

  /**
   * Give how long to wait before the request is sent again, undefined when it is not.
   *
   * @param error What became of the attempt.
   * @param attempt Its number, from 1.
   * @param repeatable Whether the caller has said that running it twice does no harm.
   */
  waitMs(error: PenstockError, attempt: number, repeatable: boolean): number | undefined {
    const { attemptsMax, backoffMs, backoffMaxMs, retryAfterMaxMs } = this.#options;
    if (attempt >= attemptsMax || !mayBeSentAgain(error, repeatable)) {
      return undefined;
    }
    const longest = Math.min(backoffMs * 2 ** Math.min(attempt - 1, 30), backoffMaxMs);
    const backoff = longest * (0.5 + Math.random() / 2);
    const asked = error instanceof RefusedError ? error.retryAfterMs : undefined;
    if (asked === undefined) {
      return backoff;
    }
    // All who were refused together would come back together, so a part of the back-off goes on top.
    return asked > retryAfterMaxMs ? undefined : asked + backoff;
  }
}

function mayBeSentAgain(error: PenstockError, repeatable: boolean): boolean {
  if (error instanceof RefusedError) {
    // A refusal whose code is not in the catalogue comes from something in between, which cannot know.
    return error.retryable || (repeatable && [408, 429, 500, 502, 503, 504].includes(error.status));
  }
  if (error instanceof ProtocolError) {
    return false;
  }
  return error instanceof TransportError && (repeatable || !error.mayHaveRun);
}
