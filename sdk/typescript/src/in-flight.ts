/** Tasks some at a time, and their results in order. */

import { unlessAborted } from "./waiting.js";

/**
 * Run `task` for each item, at most `concurrency` at a time, and give the results in the items' order.
 *
 * No more items are taken than are worked on, and no result waits for an item that is still to come. Whoever stops
 * early, or an error, has the signal that tasks and items were given aborted.
 */
export async function* inOrder<Item, Result>(
  task: (item: Item, signal: AbortSignal) => Promise<Result>,
  items: (signal: AbortSignal) => Iterable<Item> | AsyncIterable<Item>,
  concurrency: number,
  outer?: AbortSignal | undefined,
): AsyncGenerator<Result, void, undefined> {
  outer?.throwIfAborted();
  const controller = new AbortController();
  const { signal } = controller;
  const aborted = (): void => controller.abort(outer?.reason);
  outer?.addEventListener("abort", aborted, { once: true });
  const source = new Source(items(signal));
  const running: Promise<Result>[] = [];
  try {
    for (;;) {
      const coming = running.length < concurrency ? source.coming() : undefined;
      const [first] = running;
      if (coming === undefined && first === undefined) {
        return;
      }
      // Where both are there, the item goes first: its task may run while somebody looks at the result.
      const next = await unlessAborted(Promise.race([coming, first].filter((one) => one !== undefined)), signal);
      if (next instanceof Taken) {
        const item = source.taken(next);
        if (item !== undefined) {
          const result = task(item, signal);
          // An error is thrown in its turn; until then nobody looks at it.
          result.catch(() => {});
          running.push(result);
        }
      } else {
        running.shift();
        yield next;
      }
    }
  } finally {
    outer?.removeEventListener("abort", aborted);
    controller.abort(new DOMException("the batch has ended", "AbortError"));
    await source.end();
  }
}

/** What an iterator gives next. */
class Taken<Item> {
  constructor(readonly result: IteratorResult<Item>) {}
}

/** An iterator that is asked once for each item, however often somebody looks for it. */
class Source<Item> {
  readonly #items: Iterator<Item> | AsyncIterator<Item>;
  #coming: Promise<Taken<Item>> | undefined;
  #ended = false;

  constructor(items: Iterable<Item> | AsyncIterable<Item>) {
    this.#items = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]();
  }

  /** What comes next; undefined behind the last item. */
  coming(): Promise<Taken<Item>> | undefined {
    if (!this.#ended) {
      this.#coming ??= this.#next();
    }
    return this.#coming;
  }

  /** Note that the next one is there; undefined when it is the end. */
  taken({ result }: Taken<Item>): Item | undefined {
    this.#coming = undefined;
    this.#ended = result.done === true;
    return result.done ? undefined : result.value;
  }

  /** Tell the iterator that no more is wanted. One that still works on an item may never hear it: nobody waits. */
  async end(): Promise<void> {
    if (this.#ended) {
      return;
    }
    const left = (async () => this.#items.return?.())();
    if (this.#coming === undefined) {
      await left;
    } else {
      this.#coming.catch(() => {});
      left.catch(() => {});
    }
  }

  async #next(): Promise<Taken<Item>> {
    try {
      return new Taken(await this.#items.next());
    } catch (error) {
      this.#ended = true;
      throw error;
    }
  }
}
