/** Calls that are left or aborted while rows are still to come, and results that wait for none. */

import { describe, expect, inject, test } from "vitest";
import { inOrder } from "../src/in-flight.js";
import { Client, TimedOutError } from "../src/index.js";

const client = new Client(inject("url"));
const ROW = [1, 2, 3, 4];
const reason = new Error("enough");

/** A row, then silence until it is told to go on. */
class Slow {
  asked = 0;
  returned = 0;
  readonly #waiting: (() => void)[] = [];

  /** Rows that a program cannot tell to stop while it waits for one, as generators are. */
  async *rows(): AsyncGenerator<number[]> {
    try {
      for (;;) {
        this.asked += 1;
        yield ROW;
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
    } finally {
      this.returned += 1;
    }
  }

  goOn(): void {
    this.#waiting.shift()?.();
  }
}

describe.each([
  [
    "predictStream",
    (rows: AsyncIterable<number[]>, signal?: AbortSignal) => client.predictStream("affine", rows, { signal }),
  ],
  [
    "iterBatch",
    (rows: AsyncIterable<number[]>, signal?: AbortSignal) => client.iterBatch("affine", rows, { chunkRows: 1, signal }),
  ],
] as const)("%s of rows that come slowly", (_, ask) => {
  test("answers those that have come, and may be left then", async () => {
    const slow = new Slow();
    let answers = 0;
    for await (const _answer of ask(slow.rows())) {
      answers += 1;
      break;
    }
    expect(answers).toBe(1);
    slow.goOn();
    await expect.poll(() => slow.returned).toBe(1);
    expect(slow.asked).toBeLessThanOrEqual(2);
  });

  test("throws the signal's reason although no row comes", async () => {
    const slow = new Slow();
    const controller = new AbortController();
    const answers = ask(slow.rows(), controller.signal);
    await answers.next();
    const next = answers.next();
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
    slow.goOn();
    await expect.poll(() => slow.returned).toBe(1);
  });
});

test("an error is thrown in its turn although no item comes", async () => {
  const slow = new Slow();
  const results = inOrder(
    () => Promise.reject(reason),
    () => slow.rows(),
    2,
  );
  await expect(results.next()).rejects.toBe(reason);
});

test("what an iterator throws ends what is under way", async () => {
  let ended: AbortSignal | undefined;
  async function* rows(): AsyncGenerator<number> {
    yield 1;
    throw reason;
  }
  const results = inOrder(
    (_, signal) => {
      ended = signal;
      return new Promise<number>(() => {});
    },
    rows,
    2,
  );
  await expect(results.next()).rejects.toBe(reason);
  expect(ended?.aborted).toBe(true);
});

test("a stream that waits for a place among requestsMax ends with its signal, and its span", async () => {
  const ended: unknown[] = [];
  const one = new Client(inject("url"), {
    requestsMax: 1,
    hook: {
      started: () => ({ traceparent: () => undefined, retried: () => {}, ended: (_, error) => ended.push(error) }),
    },
  });
  const slow = new Slow();
  const first = one.predictStream("affine", slow.rows());
  await first.next();
  const aborted = one.predictStream("affine", [ROW], { signal: AbortSignal.abort(reason) });
  await expect(aborted.next()).rejects.toBe(reason);
  const controller = new AbortController();
  const waiting = one.predictStream("affine", [ROW], { signal: controller.signal }).next();
  controller.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  await first.return();
  expect(ended).toEqual([undefined, reason, reason]);
});

describe.each([
  ["answers", () => new Promise<Response>(() => {})],
  ["ends its answer", async () => new Response(new ReadableStream())],
] as const)("a fetch that never %s, and does not look at its signal", (_, fetch) => {
  const deaf = new Client("http://h:1", { fetch });

  test("does not keep a call from its end", async () => {
    await expect(deaf.predict("m", [1], { timeoutMs: 10 })).rejects.toBeInstanceOf(TimedOutError);
    const controller = new AbortController();
    const call = deaf.predict("m", [1], { signal: controller.signal });
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
  });

  test("does not keep a stream from its end", async () => {
    const controller = new AbortController();
    const next = deaf.predictStream("m", [[1]], { signal: controller.signal }).next();
    controller.abort(reason);
    await expect(next).rejects.toBe(reason);
  });
});
