/** Waiting that a caller's signal ends, and the bound on requests at a time. */

// What a timer can hold; longer ones would end at once.
const TIMER_MS_MAX = 2 ** 31 - 1;

/** The time, which never goes back, in milliseconds. */
export function now(): number {
  return performance.now();
}

/** Call `then` at a time of now(); gives what takes that back. Infinity is never. */
export function at(time: number, then: () => void): () => void {
  if (time === Infinity) {
    return () => {};
  }
  let timer: ReturnType<typeof setTimeout>;
  const arm = (): void => {
    const left = time - now();
    timer = setTimeout(left > TIMER_MS_MAX ? arm : then, Math.min(Math.max(left, 0), TIMER_MS_MAX));
  };
  arm();
  return () => clearTimeout(timer);
}

/** Wait so long; rejects with the signal's reason when that is aborted. */
export function sleep(ms: number, signal?: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(signal.reason);
      return;
    }
    const stop = at(now() + ms, () => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    });
    const aborted = (): void => {
      stop();
      reject(signal?.reason);
    };
    signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** Give what a promise gives; rejects with the signal's reason when that is aborted before. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    if (signal.aborted) {
      aborted();
    }
    signal.addEventListener("abort", aborted, { once: true });
    const done = (): void => signal.removeEventListener("abort", aborted);
    promise.then(resolve, reject).finally(done);
  });
}

/** So many holders at a time; who comes later waits, first come first served. */
export class Permits {
  #free: number;
  readonly #waiting = new Set<() => void>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Take one: true, or false where `deadline`, a time of now(), comes first. Rejects when the signal is aborted. */
  take(deadline: number, signal?: AbortSignal | undefined): Promise<boolean> | true {
    if (this.#free > 0) {
      this.#free -= 1;
      return true;
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiting.delete(given);
        stop();
        signal?.removeEventListener("abort", aborted);
      };
      const given = (): void => {
        leave();
        resolve(true);
      };
      const aborted = (): void => {
        leave();
        reject(signal?.reason);
      };
      const stop = at(deadline, () => {
        leave();
        resolve(false);
      });
      this.#waiting.add(given);
      signal?.addEventListener("abort", aborted, { once: true });
    });
  }

  /** Give one back: to who waits longest, if anybody does. */
  give(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
    } else {
      next();
    }
  }
}
