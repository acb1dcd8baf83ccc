/** Many rows against the real server: chunks and streams. */

import { setImmediate } from "node:timers/promises";
import { describe, expect, inject, test } from "vitest";
import { ArgumentError, BatchError, Client, type Progress, Tensor } from "../src/index.js";
import { InvalidInputError, ModelError, ModelNotFoundError } from "../src/problems.js";

const client = new Client(inject("url"));
const rows = (count: number): number[][] => Array.from({ length: count }, (_, row) => [row, 0, 0, 0]);
const firsts = (count: number): number[] => Array.from({ length: count }, (_, row) => 2 * row + 1);

async function* lazily<T>(items: Iterable<T>): AsyncGenerator<T, void, undefined> {
  for (const item of items) {
    await setImmediate();
    yield item;
  }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) {
    found.push(item);
  }
  return found;
}

describe("a batch", () => {
  test.each(["auto", "json", "msgpack", "binary"] as const)("of rows as %s keeps their order", async (encoding) => {
    const result = await client.predictBatch("affine", rows(100), { encoding, chunkRows: 7, concurrency: 3 });
    const y = result.outputs["y"];
    const listed = (y instanceof Tensor ? y.toNested() : y) as number[][];
    expect(listed.map((row) => row[0])).toEqual(firsts(100));
    expect([result.model, result.versions, result.length, result.errors.size]).toEqual(["affine", ["1"], 100, 0]);
  });

  test("of arrays is answered with tensors", async () => {
    const flat = new Float64Array(rows(2500).flat());
    for (const given of [flat, new Tensor(flat, [2500, 4]), { x: flat }]) {
      const { outputs } = await client.predictBatch("affine", given);
      expect(outputs["y"]?.shape).toEqual([2500, 4]);
      expect(outputs["y"]?.at(2499).toNested()).toEqual([4999, 1, 1, 1]);
    }
    const plain = await client.predictBatch("affine", flat, { encoding: "msgpack" });
    expect((plain.outputs["y"] as number[][])[2499]).toEqual([4999, 1, 1, 1]);
  });

  test("of objects with several inputs", async () => {
    const pairs = [1, 2].map((n) => ({ a: [Array(3).fill(n), Array(3).fill(0)], b: [n, 0, 0, 0, 0] }));
    for (const encoding of ["json", "binary"] as const) {
      const { outputs } = await client.predictBatch("pair", pairs, { encoding });
      const { total } = outputs;
      expect(total instanceof Tensor ? total.toNested() : total).toEqual(encoding === "json" ? [1, 2] : [1n, 2n]);
    }
  });

  test.each(["json", "msgpack", "binary"] as const)("as %s: a row that fails fails alone", async (encoding) => {
    const given = [
      [1, 0, 0, 0],
      [-1, 0, 0, 0],
      [3, 0, 0, 0],
    ];
    const result = await client.predictBatch("echo", given, { encoding, chunkRows: 2 });
    expect([...result.errors.keys()]).toEqual([1]);
    const error = result.errors.get(1);
    expect(error).toBeInstanceOf(ModelError);
    expect(error?.requestId).not.toBe("");
    const y = result.outputs["y"];
    if (y instanceof Tensor) {
      expect(y.at(1).toNested()).toEqual([Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
      expect((result.at(2)["y"] as Tensor).toNested()).toEqual(given[2]);
    } else {
      expect(y).toEqual([given[0], null, given[2]]);
      expect(result.at(2)).toEqual({ y: given[2] });
    }
    expect([...result].map((row) => row === undefined)).toEqual([false, true, false]);
    expect(() => result.at(1)).toThrow(ModelError);
    expect(() => result.at(3)).toThrow(RangeError);
    expect(() => result.throwForErrors()).toThrow(BatchError);
    expect(() => result.throwForErrors()).toThrow("1 of 3 rows failed; row 1: ");
  });

  test("of which a row does not fit", async () => {
    const result = await client.predictBatch("affine", [
      [1, 2, 3, 4],
      [1, 2],
    ]);
    expect(result.errors.get(1)).toBeInstanceOf(InvalidInputError);
    expect(result.outputs).toEqual({ y: [[3, 5, 7, 9], null] });
  });

  test("of nothing", async () => {
    const result = await client.predictBatch("affine", []);
    expect([result.length, result.outputs]).toEqual([0, {}]);
    expect(result.throwForErrors()).toBe(result);
  });

  test("tells how far it has come", async () => {
    const seen: Progress[] = [];
    await client.predictBatch("affine", rows(10), { chunkRows: 4, progress: (progress) => seen.push(progress) });
    expect(seen.map((one) => [one.rows, one.failed, one.total])).toEqual([
      [4, 0, 10],
      [8, 0, 10],
      [10, 0, 10],
    ]);
    expect(seen[2]?.rate).toBeGreaterThan(0);
    expect(seen[2]?.leftMs).toBe(0);
    seen.length = 0;
    await client.predictBatch("affine", lazily(rows(3)), { progress: (progress) => seen.push(progress) });
    expect(seen[0]?.total).toBeUndefined();
  });

  test("meets at once what every row would", async () => {
    await expect(client.predictBatch("nope", rows(3))).rejects.toBeInstanceOf(ModelNotFoundError);
    for (const given of ["text", 3, { x: "text" }] as unknown as number[][][]) {
      await expect(client.predictBatch("affine", given)).rejects.toBeInstanceOf(ArgumentError);
    }
    for (const options of [{ chunkRows: 0 }, { concurrency: 0 }, { encoding: "xml" as "json" }]) {
      await expect(client.predictBatch("affine", rows(1), options)).rejects.toBeInstanceOf(ArgumentError);
    }
    await expect(client.predictBatch("affine", new Float32Array(7))).rejects.toThrow("for each row, got 7 values");
  });

  test("that is larger than a request may be goes in parts", async () => {
    const wide = new Float32Array(300_000 * 4).fill(1);
    const { outputs } = await client.predictBatch("affine", wide, { chunkRows: 300_000 });
    expect(outputs["y"]?.data.every((value) => value === 3)).toBe(true);
  });
});

describe("parts of a batch", () => {
  test("come in order, of rows without an end", async () => {
    let taken = 0;
    function* endless(): Generator<number[], void, undefined> {
      for (;;) {
        yield [taken++, 0, 0, 0];
      }
    }
    const found: number[] = [];
    for await (const part of client.iterBatch("affine", endless(), { chunkRows: 10, concurrency: 2 })) {
      found.push(...(part.outputs["y"] as number[][]).map((row) => row[0] as number));
      if (part.first === 50) {
        break;
      }
    }
    expect(found).toEqual(firsts(60));
    expect(taken).toBeLessThanOrEqual(80);
  });

  test("end with the caller's signal", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const parts = client.iterBatch("affine", lazily(rows(10_000)), { chunkRows: 2, signal: controller.signal });
    await parts.next();
    controller.abort(reason);
    await expect(all(parts)).rejects.toBe(reason);
  });
});

describe.each(["lines", "events"] as const)("a stream of %s", (as) => {
  test("answers each row, in order", async () => {
    const answers = await all(client.predictStream<{ y: number[] }>("affine", rows(5000), { as }));
    expect(answers.map((answer) => answer.outputs?.y[0])).toEqual(firsts(5000));
    expect(answers.map((answer) => answer.row)).toEqual(firsts(5000).map((_, row) => row));
  });

  test("answers a row before the next one is there", async () => {
    const answered: number[] = [];
    let next: (row: number[] | undefined) => void = () => {};
    async function* conversation(): AsyncGenerator<number[], void, undefined> {
      for (let row: number[] | undefined = [0, 0, 0, 0]; row !== undefined; ) {
        yield row;
        row = await new Promise<number[] | undefined>((resolve) => {
          next = resolve;
        });
      }
    }
    for await (const { outputs } of client.predictStream<{ y: number[] }>("affine", conversation(), { as })) {
      answered.push(outputs?.y[0] as number);
      next(answered.length < 5 ? [answered.length, 0, 0, 0] : undefined);
    }
    expect(answered).toEqual(firsts(5));
  });

  test("has errors of rows, and numbers that are not finite", async () => {
    const given = [
      [1, Number.NaN, Infinity, 0],
      [-1, 0, 0, 0],
      [1, 2],
      [2, 0, 0, 0],
    ];
    const answers = await all(client.predictStream("echo", given, { as }));
    expect(answers.map((answer) => answer.outputs?.["y"])).toEqual([given[0], undefined, undefined, given[3]]);
    expect(answers[1]?.error).toBeInstanceOf(ModelError);
    expect(answers[2]?.error).toBeInstanceOf(InvalidInputError);
    expect(answers[2]?.error?.requestId).not.toBe("");
  });

  test("is refused as a whole before any row", async () => {
    await expect(all(client.predictStream("nope", rows(3), { as }))).rejects.toBeInstanceOf(ModelNotFoundError);
    await expect(all(client.predictStream("affine", 3 as unknown as [], { as }))).rejects.toBeInstanceOf(ArgumentError);
    const other = { as: "sse" as "events" };
    await expect(all(client.predictStream("affine", rows(3), other))).rejects.toThrow(/as is "sse": it is "lines" or/);
  });

  test("ends with what its rows throw", async () => {
    const reason = new Error("no more");
    async function* failing(): AsyncGenerator<number[], void, undefined> {
      yield* lazily(rows(3));
      throw reason;
    }
    await expect(all(client.predictStream("affine", failing(), { as }))).rejects.toBe(reason);
    const unfit = client.predictStream("affine", [[1, 2, 3, 4], new Set()], { as });
    await expect(all(unfit)).rejects.toBeInstanceOf(ArgumentError);
  });

  test("that is left early ends its request and its rows", async () => {
    let ended = false;
    async function* endless(): AsyncGenerator<number[], void, undefined> {
      try {
        for (;;) {
          yield* lazily(rows(10));
        }
      } finally {
        ended = true;
      }
    }
    for await (const { row } of client.predictStream("affine", endless(), { as })) {
      if (row === 20) {
        break;
      }
    }
    await expect.poll(() => ended).toBe(true);
    const reason = new Error("enough");
    const controller = new AbortController();
    const stream = client.predictStream("affine", endless(), { as, signal: controller.signal });
    await stream.next();
    controller.abort(reason);
    await expect(all(stream)).rejects.toBe(reason);
  });

  test("has no answers to no rows", async () => {
    expect(await all(client.predictStream("affine", [], { as }))).toEqual([]);
  });

  test("takes rows that are longer than a piece", async () => {
    const persons = [1, 40_000, 50_000, 2, 3].map((length) => ({ age: 1, sex: "male", comment: "é".repeat(length) }));
    const answers = await all(client.predictStream<{ comment: string }>("person", persons, { as }));
    // The model has no room for those that are long.
    const comments = answers.map(({ outputs, error }) => outputs?.comment ?? error?.name);
    expect(comments).toEqual(["é", "InvalidInputError", "InvalidInputError", "éé", "ééé"]);
  });

  test("of more than the server's buffers hold goes on while it is read", async () => {
    let count = 0;
    for await (const { outputs } of client.predictStream<{ y: number[] }>("affine", rows(200_000), { as })) {
      count += outputs?.y[0] === 2 * count + 1 ? 1 : 0;
    }
    expect(count).toBe(200_000);
  });
});
