/** The SDK in a page of headless Chromium, against the real server of another origin. */

import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type * as Sdk from "../src/index.js";
import { Client } from "../src/index.js";
import { FaultyServer } from "./faulty.js";
import { browserPath, launched, Pages } from "./pages.js";
import { MODELS, Server } from "./serving.js";

declare global {
  // What a page has imported.
  var sdk: typeof Sdk;
}

describe.skipIf(browserPath() === undefined)("in Chromium", () => {
  let browser: Browser;
  let server: Server;
  let page: Page;
  let port: number;
  const pages = new Pages();

  async function opened(origin: string, on = browser): Promise<Page> {
    const made = await on.newPage();
    made.setDefaultTimeout(300_000);
    await made.goto(origin);
    await made.waitForFunction(() => globalThis.sdk !== undefined);
    return made;
  }

  beforeAll(async () => {
    port = await pages.start();
    const settings = { PENSTOCK_CORS_ORIGINS: `http://localhost:${port}` };
    [server, browser] = await Promise.all([Server.start([...MODELS, "--development"], settings), launched()]);
    page = await opened(`http://localhost:${port}`);
  });
  afterAll(async () => {
    await browser?.close();
    await server?.stop();
    await pages.stop();
  });

  test("plain values and arrays there and back", async () => {
    const seen = await page.evaluate(async (url) => {
      const client = new sdk.Client(url);
      const plain = await client.predict("affine", [1, 2, 3, 4], { receipt: true, requestId: "page-1" });
      const arrays = {
        a: new Float64Array([1, 2, 3, 4, 5, 6]),
        b: new sdk.Tensor(new BigInt64Array(5).fill(2n ** 61n)),
      };
      const { scaled, total } = (await client.predict("pair", arrays)).outputs;
      const receipts: boolean[] = [];
      for (let call = 0; call < 2; call += 1) {
        const { receipt } = await client.predict("cached", [1, 0, 0, 0], { receipt: true });
        receipts.push(receipt === undefined);
      }
      const packed = await client.predict("affine", [1, 2, 3, 4], { encoding: "msgpack" });
      return {
        plain: plain.outputs,
        receipt: plain.receipt?.batchRows,
        cached: receipts,
        requestId: plain.requestId,
        scaled: scaled?.toNested(),
        total: String(total?.item()),
        packed: packed.output,
      };
    }, server.url);
    expect(seen).toEqual({
      plain: { y: [3, 5, 7, 9] },
      receipt: 1,
      cached: [false, true],
      requestId: "page-1",
      scaled: [
        [3, 6, 9],
        [12, 15, 18],
      ],
      total: String(5n * 2n ** 61n - 2n ** 64n),
      packed: [3, 5, 7, 9],
    });
  });

  test("typed errors with the request's id", async () => {
    const seen = await page.evaluate(async (url) => {
      const client = new sdk.Client(url);
      const caught: unknown[] = [];
      for (const call of [
        client.predict("affine", [1], { requestId: "page-2" }),
        client.predict("nope", new Float32Array(4)),
        client.predict("affine", new Float32Array(3)),
      ]) {
        await call.catch((error: Sdk.PenstockError) => {
          const { name, requestId, mayHaveRun } = error;
          const known = error instanceof sdk.PenstockError;
          caught.push([name, known, error instanceof sdk.RefusedError ? error.code : "", requestId !== "", mayHaveRun]);
        });
      }
      return caught;
    }, server.url);
    expect(seen).toEqual([
      ["InvalidInputError", true, "invalid_input", true, false],
      ["ModelNotFoundError", true, "model_not_found", true, false],
      ["ArgumentError", true, "", false, false],
    ]);
  });

  test("batches, and streams that go in chunks", async () => {
    const seen = await page.evaluate(async (url) => {
      const client = new sdk.Client(url);
      const seenRows: number[] = [];
      const rows = Array.from({ length: 100 }, (_, row) => [row, 0, 0, 0]);
      const batch = await client.predictBatch("affine", new Float32Array(rows.flat()), {
        chunkRows: 30,
        progress: (progress) => seenRows.push(progress.rows),
      });
      async function* lazily(): AsyncGenerator<number[], void, undefined> {
        yield* rows;
        yield [1, 2];
      }
      const streamed: unknown[] = [];
      for await (const answer of client.predictStream<{ y: number[] }>("affine", lazily(), { chunkRows: 40 })) {
        streamed.push(answer.outputs?.y[0] ?? answer.error?.name);
      }
      return { progress: seenRows, last: batch.outputs["y"]?.at(99).toNested(), streamed };
    }, server.url);
    expect(seen.progress).toEqual([30, 60, 90, 100]);
    expect(seen.last).toEqual([199, 1, 1, 1]);
    expect(seen.streamed).toEqual([...Array.from({ length: 100 }, (_, row) => 2 * row + 1), "InvalidInputError"]);
  });

  test("streams of events, row by row", async () => {
    const seen = await page.evaluate(async (url) => {
      const types = new Set<string>();
      let requests = 0;
      const client = new sdk.Client(url, {
        fetch: async (address, init) => {
          const response = await fetch(address, init);
          if (init.method === "POST") {
            requests += 1;
            types.add(response.headers.get("content-type") ?? "");
          }
          return response;
        },
      });
      const rows = Array.from({ length: 20_000 }, (_, row) => (row % 5000 === 4999 ? [row] : [row, 0, 0, 0]));
      async function* lazily(): AsyncGenerator<number[], void, undefined> {
        yield* rows;
      }
      const wrong: unknown[] = [];
      let next = 0;
      for await (const { row, outputs, error } of client.predictStream<{ y: number[] }>("affine", lazily(), {
        as: "events",
        chunkRows: 50_000,
      })) {
        const expected = row % 5000 === 4999 ? "InvalidInputError" : 2 * row + 1;
        if (row !== next || (outputs?.y[0] ?? error?.name) !== expected) {
          wrong.push(row);
        }
        next += 1;
      }
      const long = { age: 1, sex: "male", comment: "é".repeat(3_000_000) };
      const mixed: unknown[] = [];
      for await (const { outputs, error } of client.predictStream(
        "person",
        [{ ...long, comment: "a" }, long, { ...long, comment: "b" }],
        { as: "events", chunkRows: 2 },
      )) {
        mixed.push(outputs?.comment ?? error?.name);
      }
      return { wrong, next, types: [...types], several: requests > 3, mixed };
    }, server.url);
    expect(seen).toEqual({
      wrong: [],
      next: 20_000,
      types: ["text/event-stream"],
      several: true,
      mixed: ["a", "InvalidInputError", "b"],
    });
  });

  test("streams of events that are left, aborted or refused, and rows that throw", async () => {
    const seen = await page.evaluate(async (url) => {
      const client = new sdk.Client(url);
      const caught: unknown[] = [];
      const ended: string[] = [];
      async function* endless(name: string): AsyncGenerator<number[], void, undefined> {
        try {
          for (;;) {
            yield [1, 2, 3, 4];
          }
        } finally {
          ended.push(name);
        }
      }
      async function all(stream: AsyncIterable<unknown>): Promise<void> {
        try {
          for await (const _answer of stream) {
            // until it ends
          }
        } catch (error) {
          caught.push(error instanceof Error ? error.name : error);
        }
      }
      const options = { as: "events", chunkRows: 10 } as const;
      for await (const { row } of client.predictStream("affine", endless("left"), options)) {
        if (row === 25) {
          break;
        }
      }
      const controller = new AbortController();
      const stream = client.predictStream("affine", endless("aborted"), { ...options, signal: controller.signal });
      await stream.next();
      controller.abort("enough");
      await all(stream);
      const silent = new AbortController();
      const waiting = client.predictStream(
        "affine",
        { [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => {}) }) },
        { ...options, signal: silent.signal },
      );
      const waited = all(waiting);
      silent.abort("no row comes");
      await waited;
      async function* failing(): AsyncGenerator<number[], void, undefined> {
        yield [1, 2, 3, 4];
        throw new RangeError("no more");
      }
      await all(client.predictStream("affine", failing(), options));
      await all(client.predictStream("nope", [[1]], options));
      await all(client.predictStream("affine", [[1]], { ...options, chunkRows: 0 }));
      await all(client.predictStream("affine", [[1]], { as: "sse" as "events" }));
      return { caught, ended };
    }, server.url);
    expect(seen).toEqual({
      caught: ["enough", "no row comes", "RangeError", "ModelNotFoundError", "ArgumentError", "ArgumentError"],
      ended: ["left", "aborted"],
    });
  });

  test("events of any answer", async () => {
    const seen = await page.evaluate(async (url) => {
      const response = await fetch(`${url}/predict/batch?model=affine`, {
        method: "POST",
        body: "[1,2,3,4]\n",
        headers: { "Content-Type": "application/x-ndjson", Accept: "text/event-stream" },
      });
      const events: unknown[] = [];
      for await (const { event, data } of sdk.serverSentEvents(response.body as ReadableStream<Uint8Array>)) {
        events.push([event, data]);
      }
      return events;
    }, server.url);
    expect(seen).toEqual([
      ["message", '{"outputs":{"y":[3.0,5.0,7.0,9.0]}}'],
      ["end", '{"rows":1}'],
    ]);
  });

  test("keys, deadlines and signals", async () => {
    const made = await new Client(server.url).keys.create("page", "predict");
    const seen = await page.evaluate(
      async ([url, key]) => {
        const names = (await new sdk.Client(url, { key: key ?? "" }).models.list()).map((model) => model.name);
        const wrong = await new sdk.Client(url, { key: "psk_wrong" }).models.list().catch((error) => error.name);
        const reason = new Error("enough");
        const controller = new AbortController();
        const call = new sdk.Client(url).predict("affine", [1, 2, 3, 4], { signal: controller.signal });
        controller.abort(reason);
        const aborted = await call.catch((error) => error === reason);
        return { names, wrong, aborted, live: await new sdk.Client(url).live(), own: new sdk.Client().url };
      },
      [server.url, made.key],
    );
    expect(seen).toEqual({
      names: expect.arrayContaining(["affine", "pair"]),
      wrong: "UnauthorizedError",
      aborted: true,
      live: true,
      own: `http://localhost:${port}`,
    });
  });

  test("a page that the server does not list is told what that may be", async () => {
    const foreign = await opened(`http://127.0.0.1:${port}`);
    const seen = await foreign.evaluate(
      (url) =>
        new sdk.Client(url)
          .predict("affine", [1, 2, 3, 4])
          .catch((error: Sdk.PenstockError) => [error.name, error.detail, error.attempts, error.mayHaveRun]),
      server.url,
    );
    expect(seen).toEqual(["ConnectionLostError", expect.stringContaining("cors_origins"), 1, true]);
    await foreign.close();
  });

  // A browser itself sends a request again whose kept connection has ended, so what was acted on twice says nothing
  // about the SDK. What it hands to fetch does.
  test("what fails on the way is handed to fetch again only where it certainly did not run", async () => {
    const faulty = new FaultyServer(3);
    const url = await faulty.start();
    // The faulty server knows nothing of pages.
    const lax = await launched("--disable-web-security");
    const own = await opened(`http://localhost:${port}`, lax);
    const calls = await own.evaluate(async (target) => {
      const found: { met: string[]; attempts: number; name: string; mayHaveRun: boolean }[] = [];
      for (let call = 0; call < 300; call += 1) {
        const met: string[] = [];
        const client = new sdk.Client(target, {
          timeoutMs: 5000,
          retries: { attemptsMax: 8, backoffMs: 1 },
          fetch: async (address, init) => {
            const response = await fetch(address, init).catch((error) => {
              met.push("nothing");
              throw error;
            });
            const problem = response.headers.get("content-type")?.includes("problem");
            met.push(problem ? (await response.clone().json()).code : String(response.status));
            return response;
          },
        });
        const ended = await client.predict("m", { id: `p${call}` }).catch((error: Sdk.PenstockError) => error);
        const { name, attempts, mayHaveRun } =
          ended instanceof sdk.Prediction ? { name: "", attempts: 0, mayHaveRun: true } : ended;
        found.push({ met, attempts, name, mayHaveRun });
      }
      return found;
    }, url);
    await lax.close();
    await faulty.stop();
    for (const { met, attempts, name, mayHaveRun } of calls) {
      expect(met.slice(0, -1).filter((one) => !["queue_full", "too_many_requests", "draining"].includes(one))).toEqual(
        [],
      );
      expect(name === "" || attempts === met.length).toBe(true);
      expect(mayHaveRun || ["too_many_requests", "queue_full", "draining"].includes(met.at(-1) ?? "")).toBe(true);
    }
    expect(calls.filter(({ name }) => name === "ConnectionLostError").length).toBeGreaterThan(20);
    expect(calls.filter(({ met }) => met.length > 1).length).toBeGreaterThan(20);
  });
});
