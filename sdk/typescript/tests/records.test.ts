/** Records, for a model with a plan; and large bodies, to a server that compresses its answers. */

import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { Client, Tensor } from "../src/index.js";
import { InvalidInputError } from "../src/problems.js";
import { MODELS, Server } from "./serving.js";

const client = new Client(inject("url"));
// 1990-02-03 in UTC
const BORN = 634_003_200;
const PERSON = { age: 22, sex: "male", born: "1990-02-03", tall: true, comment: "hello" };

describe("a record", () => {
  test.each(["auto", "msgpack"] as const)("as %s", async (encoding) => {
    const { outputs } = await client.predict("person", PERSON, { encoding } as { encoding: "msgpack" });
    expect(outputs).toEqual({ slots: [22, 1, BORN, 1], comment: "hello" });
  });

  test("may lack what is optional, or have it undefined or null", async () => {
    const less = { age: null, sex: "female", born: undefined, comment: "é" };
    const { outputs } = await client.predict("person", less);
    expect(outputs["slots"]).toEqual([Number.NaN, 0, Number.NaN, 0]);
  });

  test("that does not fit says so of each field", async () => {
    const error = await client
      .predict("person", { ...PERSON, age: 200, sex: "other" })
      .catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(InvalidInputError);
    expect((error as InvalidInputError).fields.map(({ field, rule }) => [field, rule])).toEqual([
      ["age", "maximum"],
      ["sex", "enum"],
    ]);
  });

  test("in batches, as rows and as columns", async () => {
    const rows = await client.predictBatch("person", [PERSON, { ...PERSON, age: 200 }]);
    expect(rows.outputs["slots"]).toEqual([[22, 1, BORN, 1], null]);
    expect((rows.errors.get(1) as InvalidInputError).fields[0]?.field).toBe("age");
    const words = new Tensor(["male", "female"]);
    const columns = { age: new Float64Array([22, 23]), sex: words, comment: words };
    const { outputs } = await client.predictBatch("person", columns);
    expect(outputs["slots"]?.toNested()).toEqual([
      [22, 1, Number.NaN, 0],
      [23, 0, Number.NaN, 0],
    ]);
    expect(outputs["comment"]?.data).toEqual(["male", "female"]);
  });
});

describe("a server that compresses", () => {
  let server: Server;

  beforeAll(async () => {
    server = await Server.start([...MODELS], { PENSTOCK_COMPRESS: "true" });
  });
  afterAll(() => server.stop());

  test("answers arrays and values as ever", async () => {
    const own = new Client(server.url);
    const flat = Float32Array.from({ length: 400_000 }, (_, place) => place % 1000);
    const { outputs } = await own.predictBatch("affine", flat, { chunkRows: 50_000 });
    expect(outputs["y"]?.data).toEqual(flat.map((value) => 2 * value + 1));
    const rows = Array.from({ length: 3000 }, (_, row) => [row, 0, 0, 0]);
    let count = 0;
    for await (const answer of own.predictStream<{ y: number[] }>("affine", rows)) {
      count += answer.outputs?.y[0] === 2 * answer.row + 1 ? 1 : 0;
    }
    expect(count).toBe(3000);
  });
});
