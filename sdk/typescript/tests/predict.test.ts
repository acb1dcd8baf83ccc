/** Predictions against the real server. */

import { describe, expect, inject, test } from "vitest";
import { ArgumentError, Client, type PredictOptions, Tensor, TensorSpec } from "../src/index.js";
import { InvalidInputError, ModelError, ModelNotFoundError, VersionNotFoundError } from "../src/problems.js";

const client = new Client(inject("url"));
const ROW = [1, 2, 3, 4];
const PAIR = {
  a: [
    [1, 2, 3],
    [4, 5, 6],
  ],
  b: [1, 2, 3, 4, 5],
};
const SCALED = [
  [3, 6, 9],
  [12, 15, 18],
];

/** The error that a promise is rejected with. */
async function thrown<E>(promise: Promise<unknown>, Kind: new (...words: never[]) => E): Promise<E> {
  const error = await promise.then(
    (value) => value,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Kind);
  return error as E;
}

describe("plain values", () => {
  test("come back as plain values", async () => {
    const answer = await client.predict("affine", ROW);
    expect([answer.model, answer.version]).toEqual(["affine", "1"]);
    expect(answer.outputs).toEqual({ y: [3, 5, 7, 9] });
    expect(answer.output).toEqual([3, 5, 7, 9]);
    expect((await client.predict("pair", PAIR)).outputs).toEqual({ scaled: SCALED, total: 15 });
  });

  test.each(["json", "msgpack"] as const)("as %s keep whole numbers of 64 bits", async (encoding) => {
    const large = 2n ** 62n + 1n;
    const { outputs } = await client.predict("pair", { ...PAIR, b: [large, -1, 2, -1, 0] }, { encoding });
    expect(outputs["total"]).toBe(large);
    const less = await client.predict("pair", { ...PAIR, b: [2 ** 52, -1, 1, 0, 0] }, { encoding });
    expect(less.outputs["total"]).toBe(2 ** 52);
  });

  test.each(["json", "msgpack", "binary"] as const)("as %s keep numbers that are not finite", async (encoding) => {
    const values = [1, Number.NaN, Infinity, -Infinity];
    const answer = await client.predict("echo", values, { encoding } as PredictOptions & { encoding: "json" });
    const y = answer.outputs["y"] as unknown;
    expect(y instanceof Tensor ? y.toNested() : y).toEqual(values);
  });

  test("keep fractions of many digits, and digits in strings", async () => {
    const given = { text: ["1234567890123456789", '\\" 1234567890123456789'], float64: [0.1 + 0.2, 1 / 3e-20] };
    const rest = { bool: [true, false], blob: new Uint8Array(), int64: [-(2n ** 63n), 2n ** 63n - 1n] };
    const pairs = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "float16", "float32"];
    const zeros = Object.fromEntries(pairs.map((name) => [name, [0, 0]]));
    const { outputs } = await client.predict("every", { ...zeros, ...rest, ...given }, { encoding: "json" });
    expect(outputs).toMatchObject({ ...given, int64: rest.int64, bool: rest.bool, blob: "" });
  });

  test.each(["json", "msgpack", "binary"] as const)("as %s keep the sign of zero", async (encoding) => {
    const answer = await client.predict("echo", [-0, 0, 0.5, 1], { encoding } as PredictOptions & { encoding: "json" });
    const y = answer.outputs["y"] as unknown;
    const listed = (y instanceof Tensor ? y.toNested() : y) as number[];
    expect(Object.is(listed[0], -0)).toBe(true);
    expect(Object.is(listed[1], 0)).toBe(true);
  });
});

describe("arrays", () => {
  test.each([Float32Array, Float64Array, Int32Array, Uint8Array, Uint8ClampedArray])(
    "of %o come back in the model's type",
    async (Kind) => {
      const { y } = (await client.predict("affine", Kind.from(ROW))).outputs;
      expect(y).toBeInstanceOf(Tensor);
      expect(y?.data).toEqual(new Float32Array([3, 5, 7, 9]));
      expect(y?.shape).toEqual([4]);
      expect(y?.dtype).toBe("float32");
    },
  );

  test("may be given by name, and take the model's shape", async () => {
    const arrays = { a: Float64Array.from([1, 2, 3, 4, 5, 6]), b: Float64Array.from(PAIR.b) };
    const { scaled, total } = (await client.predict("pair", arrays)).outputs;
    expect(scaled?.toNested()).toEqual(SCALED);
    expect(total?.item()).toBe(15n);
    expect(total?.data).toEqual(new BigInt64Array([15n]));
  });

  test("are plain values for JSON and msgpack", async () => {
    const arrays = {
      a: new Tensor(new Float32Array([1, 2, 3, 4, 5, 6]), [2, 3]),
      b: BigInt64Array.from([15n, 0n, 0n, 0n, 0n]),
    };
    for (const encoding of ["json", "msgpack"] as const) {
      expect((await client.predict("pair", arrays, { encoding })).outputs).toEqual({ scaled: SCALED, total: 15 });
    }
  });

  test("of every type come back as they were", async () => {
    const given = {
      bool: new Tensor(new Uint8Array([1, 0]), [2], "bool"),
      uint8: new Uint8Array([0, 255]),
      uint16: new Uint16Array([0, 65_535]),
      uint32: new Uint32Array([0, 2 ** 32 - 1]),
      uint64: new BigUint64Array([0n, 2n ** 64n - 1n]),
      int8: new Int8Array([-128, 127]),
      int16: new Int16Array([-32_768, 32_767]),
      int32: new Int32Array([-(2 ** 31), 2 ** 31 - 1]),
      int64: new BigInt64Array([-(2n ** 63n), 2n ** 63n - 1n]),
      float16: new Float32Array([0.5, -65_504]),
      float32: new Float32Array([0.1, -3.4e38]),
      float64: new Float64Array([0.1, 1e300]),
      text: new Tensor(["é😀", ""], [2]),
      blob: new Uint8Array([255, 0, 1]),
    };
    const { outputs } = await client.predict("every", given);
    for (const [name, value] of Object.entries(given)) {
      if (name !== "blob") {
        expect(outputs[name]?.data, name).toEqual(value instanceof Tensor ? value.data : value);
        expect(outputs[name]?.dtype).toBe(name === "text" ? "str" : name);
      }
    }
    expect(outputs["blob"]?.item()).toEqual(new Uint8Array([255, 0, 1]));
    expect(outputs["bool"]?.toNested()).toEqual([true, false]);
    const plain = await client.predict("every", given, { encoding: "msgpack" });
    expect(plain.outputs["uint64"]).toEqual([0, 2n ** 64n - 1n]);
    expect(plain.outputs["blob"]).toEqual(new Uint8Array([255, 0, 1]));
    expect(plain.outputs["text"]).toEqual(["é😀", ""]);
  });

  test("of a length that varies", async () => {
    const { twice } = (await client.predict("length", new Int32Array([1, 2, 3]))).outputs;
    expect(twice?.data).toEqual(new BigInt64Array([2n, 4n, 6n]));
  });

  test("are views of the answer that may be written to", async () => {
    const { y } = (await client.predict("affine", Float32Array.from(ROW))).outputs;
    (y as Tensor<"float32">).data[0] = 0;
    expect(y?.data[0]).toBe(0);
  });
});

describe("options", () => {
  test.each([["1"], ["latest"]])("version %s", async (version) => {
    expect((await client.predict("affine", ROW, { version })).version).toBe("1");
    expect((await client.predict("affine", Float32Array.from(ROW), { version })).version).toBe("1");
  });

  test("receipt, priority and reproducible", async () => {
    const answer = await client.predict("affine", ROW, { receipt: true, priority: "interactive", reproducible: true });
    expect(answer.receipt).toMatchObject({ version: "1", batchRows: 1, sealed: "reproducible" });
    expect(answer.receipt?.batchUs).toBeGreaterThanOrEqual(answer.receipt?.runUs ?? Infinity);
    expect((await client.predict("affine", ROW)).receipt).toBeUndefined();
  });

  test("a call does not keep the server from answering from its cache", async () => {
    const row = [Math.random(), 0, 0, 0];
    expect((await client.predict("cached", row, { receipt: true })).receipt).toBeDefined();
    // Answers from the cache have none.
    expect((await client.predict("cached", row, { receipt: true })).receipt).toBeUndefined();
  });

  test("the request's id comes back", async () => {
    expect((await client.predict("affine", ROW, { requestId: "mine-1" })).requestId).toBe("mine-1");
    const ids = await Promise.all([1, 2].map(async () => (await client.predict("affine", ROW)).requestId));
    expect(new Set(ids).size).toBe(2);
  });

  test("a signal ends the call with its reason", async () => {
    const reason = new Error("enough");
    await expect(client.predict("affine", ROW, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const call = client.predict("affine", ROW, { signal: controller.signal });
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
  });

  test.each<PredictOptions>([
    { timeoutMs: 0 },
    { timeoutMs: Number.NaN },
    { priority: "urgent" as "normal" },
    { encoding: "xml" as "auto" },
    { requestId: "a b" },
    { requestId: "a\r\nX: y" },
    { version: 1 as unknown as string },
  ])("%j is refused before anything is sent", async (options) => {
    const error = await thrown(client.predict("affine", ROW, options as { version?: string }), ArgumentError);
    expect(error.attempts).toBe(0);
    expect(error.mayHaveRun).toBe(false);
  });
});

describe("errors", () => {
  test("what does not fit is a typed error", async () => {
    const error = await thrown(client.predict("affine", [1, 2], { requestId: "r-7" }), InvalidInputError);
    expect([error.code, error.status, error.title, error.name]).toEqual([
      "invalid_input",
      422,
      "Invalid input",
      "InvalidInputError",
    ]);
    expect([error.requestId, error.mayHaveRun, error.attempts]).toEqual(["r-7", false, 1]);
    expect(error.message).toBe(`${error.detail} (invalid_input, 422, request r-7)`);
    expect(error.detail).toContain("expected 4 values");
  });

  test("models and versions that are not there", async () => {
    for (const row of [ROW, Float32Array.from(ROW)]) {
      await thrown(client.predict("nope", row), ModelNotFoundError);
      await thrown(client.predict("affine", row, { version: "77" }), VersionNotFoundError);
    }
  });

  test("a model that throws", async () => {
    const error = await thrown(client.predict("echo", [-1, 0, 0, 0]), ModelError);
    expect([error.mayHaveRun, error.attempts]).toEqual([true, 1]);
    expect(error.detail).toContain("negative");
  });

  const loops: unknown[] = [];
  loops.push(loops);
  test.each<[string, unknown]>([
    ["a function", () => 1],
    ["undefined", undefined],
    ["a hole", Array(4)],
    ["a set", new Set(ROW)],
    ["half a surrogate pair", "\ud83d"],
    ["what holds itself", loops],
    ["strings for numbers", new Tensor(["a", "b", "c", "d"])],
    ["too few values", new Float32Array(3)],
    ["another shape", new Tensor(new Float32Array(4), [2, 2])],
    ["a number that is too large", new Float64Array([1e39, 0, 0, 0])],
  ])("%s is refused before it is sent", async (_, inputs) => {
    expect((await thrown(client.predict("affine", inputs), ArgumentError)).attempts).toBe(0);
  });

  test("whole numbers are taken only where they stay what they are", async () => {
    const a = new Float32Array(6);
    expect((await client.predict("pair", { a, b: new Float64Array(5).fill(3) })).outputs["total"]?.item()).toBe(15n);
    const halves = client.predict("pair", { a, b: new Float64Array(5).fill(1.5) });
    expect((await thrown(halves, ArgumentError)).detail).toBe("inputs.b: float64 does not become int64 without loss");
  });

  test.each(["", "ftp://x", "http://", "http://h:99999", "http://u:p@h", "localhost:8000"])("address %j", (url) => {
    expect(() => new Client(url)).toThrow(ArgumentError);
  });

  test("a key that would break the head", () => {
    expect(() => new Client("http://h", { key: "psk_1\r\nX: y" })).toThrow(ArgumentError);
  });
});

describe("the server", () => {
  test("says what a model takes", async () => {
    expect(await client.schema("pair")).toEqual({
      name: "pair",
      inputs: [new TensorSpec("a", "float32", [2, 3]), new TensorSpec("b", "int64", [5])],
      outputs: [new TensorSpec("scaled", "float32", [2, 3]), new TensorSpec("total", "int64", [])],
    });
    expect(String((await client.schema("length")).inputs[0])).toBe("ids int64[any]");
  });

  test("is there, is ready, and says who it is", async () => {
    await expect.poll(() => client.live()).toBe(true);
    await expect.poll(() => client.ready()).toBe(true);
    await client.waitReady();
    expect((await client.server()).name).toBe("penstock");
    expect(await new Client("http://127.0.0.1:1").live()).toBe(false);
  });
});
