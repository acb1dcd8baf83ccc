/** The codecs beside others, or beside arithmetic: msgpack, half-precision numbers, JSON, conversions. */

import { isDeepStrictEqual } from "node:util";
import { decode, encode } from "@msgpack/msgpack";
import { describe, expect, test } from "vitest";
import { fromHalf, toHalf } from "../src/dtypes.js";
import { ArgumentError } from "../src/errors.js";
import { fitted } from "../src/fitting.js";
import { fromJson, toJson } from "../src/json.js";
import { fromMsgpack, toMsgpack } from "../src/msgpack.js";
import { TensorSpec } from "../src/schema.js";
import { Tensor } from "../src/tensor.js";
import { randomly } from "./faulty.js";

const random = randomly(5);
const below = (count: number): number => Math.floor(random() * count);

/** A value of any kind, to a depth. */
function anything(depth: number): unknown {
  const kinds: (() => unknown)[] = [
    () => null,
    () => random() < 0.5,
    () => below(2 ** 32) - 2 ** 31,
    () => (random() - 0.5) * 10 ** below(40),
    () => Number.MAX_SAFE_INTEGER - below(300),
    () => (1n << 63n) + BigInt(below(1000)),
    () => -(1n << 62n) - BigInt(below(1000)),
    () => "é😀/\u2028\n".repeat(below(60)),
    () => new Uint8Array(below(400)).fill(below(256)),
  ];
  if (depth > 0) {
    kinds.push(() => Array.from({ length: below(14) }, () => anything(depth - 1)));
    kinds.push(() => Object.fromEntries(Array.from({ length: below(20) }, (_, at) => [`k${at}`, anything(depth - 1)])));
  }
  return (kinds[below(kinds.length)] as () => unknown)();
}

/** Whole numbers as another codec has them: all of 64 bits are bigints. */
function plainly(value: unknown): unknown {
  if (typeof value === "bigint") {
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  if (Array.isArray(value)) {
    return value.map(plainly);
  }
  if (typeof value === "object" && value !== null && !(value instanceof Uint8Array)) {
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plainly(item)]));
  }
  return value;
}

/** Bigints as the numbers that JSON.parse makes of them. */
function numbered(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (_, item) => (typeof item === "bigint" ? Number(item) : item)));
}

describe("msgpack", () => {
  test("is read by another codec as it was, and reads what that writes", () => {
    for (let count = 0; count < 500; count += 1) {
      const value = anything(3);
      const bytes = toMsgpack(value);
      expect(plainly(decode(bytes, { useBigInt64: true }))).toEqual(value);
      expect(fromMsgpack(bytes)).toEqual(value);
      expect(fromMsgpack(encode(value, { useBigInt64: true }))).toEqual(value);
    }
  });

  test("has every length of head", () => {
    for (const length of [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536, 70_000]) {
      const keys = Object.fromEntries(Array.from({ length }, (_, at) => [`k${at}`, at]));
      for (const value of ["x".repeat(length), new Uint8Array(length), Array(length).fill(1), keys]) {
        expect([length, Buffer.compare(toMsgpack(value), encode(value))]).toEqual([length, 0]);
        expect(isDeepStrictEqual(fromMsgpack(encode(value)), value)).toBe(true);
      }
    }
  });

  test("has the shortest form of whole numbers", () => {
    const edges = [7, 8, 15, 16, 31, 32, 52].flatMap((bits) => [
      2 ** bits - 1,
      2 ** bits,
      -(2 ** bits),
      -(2 ** bits) - 1,
    ]);
    for (const value of [...edges, 0, -1, -32, -33]) {
      expect([toMsgpack(value), fromMsgpack(encode(value))]).toEqual([encode(value), value]);
    }
    for (const value of [2n ** 64n - 1n, -(2n ** 63n)]) {
      expect(fromMsgpack(toMsgpack(value))).toBe(value);
      expect(() => toMsgpack(value < 0n ? value - 1n : value + 1n)).toThrow(ArgumentError);
    }
  });

  test("that is none is said to be", () => {
    for (const bytes of [
      [],
      [0x92, 1],
      [0xa3, 0x61],
      [0xc1],
      [0xd4, 0, 0],
      [0xa1, 0xff],
      [1, 1],
      [0xdd, 255, 255, 255, 255],
    ]) {
      expect(() => fromMsgpack(Uint8Array.from(bytes))).toThrow();
    }
  });
});

describe("JSON", () => {
  test("is what JSON.stringify writes, where both can", () => {
    for (let count = 0; count < 500; count += 1) {
      const value = JSON.parse(
        JSON.stringify(anything(3), (_, item) => (typeof item === "bigint" ? String(item) : item)),
      );
      const text = toJson(value);
      expect(text).toBe(JSON.stringify(value));
      expect(numbered(fromJson(text))).toEqual(value);
    }
  });

  test("keeps whole numbers of any length, and nothing else changes", () => {
    const text =
      '{"9007199254740993":[9007199254740993,-9007199254740992,9007199254740991,0.12345678901234566,1e300,"9007199254740993","\\\\\\"9007199254740993"]}';
    const [large, less, safe, ...rest] = Object.values(fromJson(text) as Record<string, unknown[]>)[0] as unknown[];
    expect([large, less, safe]).toEqual([9007199254740993n, -9007199254740992n, 9007199254740991]);
    expect(rest).toEqual([0.12345678901234566, 1e300, "9007199254740993", '\\"9007199254740993']);
    expect(toJson({ n: 2n ** 80n })).toBe('{"n":1208925819614629174706176}');
  });

  test("of what is no plain value", () => {
    const tensor = new Tensor(new Uint8Array([1, 0]), [2, 1], "bool");
    const date = new Date(0);
    expect(toJson({ tensor, date, gone: undefined, list: new Int8Array([1, -1]) })).toBe(
      '{"tensor":[[true],[false]],"date":"1970-01-01T00:00:00.000Z","list":[1,-1]}',
    );
    for (const value of [new Map(), new Set(), Symbol("s"), () => 1, [undefined], /x/, new Date(Number.NaN)]) {
      expect(() => toJson(value)).toThrow();
    }
  });
});

describe("half-precision numbers", () => {
  test("all come back", () => {
    const changed: number[] = [];
    for (let half = 0; half < 0x1_0000; half += 1) {
      const value = fromHalf(half);
      if (toHalf(value) !== (Number.isNaN(value) ? 0x7e00 : half)) {
        changed.push(half);
      }
    }
    expect(changed).toEqual([]);
  });

  test("are the nearest, and of two the even one", () => {
    const wrong: number[] = [];
    for (let half = 0; half < 0x7bff; half += 1) {
      const middle = (fromHalf(half) + fromHalf(half + 1)) / 2;
      const near = [toHalf(middle), toHalf(middle - middle * 1e-15), toHalf(middle + middle * 1e-15)];
      if (near[0] !== half + (half & 1) || near[1] !== half || near[2] !== half + 1) {
        wrong.push(half);
      }
    }
    expect(wrong).toEqual([]);
    expect([toHalf(65_519.99), toHalf(65_520), toHalf(1e300), toHalf(-1e-300)]).toEqual([
      0x7bff, 0x7c00, 0x7c00, 0x8000,
    ]);
  });
});

describe("numbers become the model's type", () => {
  const fits: [string, Tensor, TensorSpec["dtype"], unknown[] | undefined][] = [
    ["too large for float32", new Tensor(new Float64Array([1e39])), "float32", undefined],
    ["not finite", new Tensor(new Float64Array([Infinity, Number.NaN])), "float32", [Infinity, Number.NaN]],
    ["too small", new Tensor(new Float64Array([1e-60])), "float32", [0]],
    ["too large for float16", new Tensor(new Int32Array([70_000])), "float16", undefined],
    ["rounded once", new Tensor(new Float64Array([2049.0000000000005])), "float16", [2050]],
    ["too large for int32", new Tensor(new Float64Array([2 ** 31])), "int32", undefined],
    ["below 0", new Tensor(new BigInt64Array([-1n])), "uint64", undefined],
    ["above int64", new Tensor(new BigUint64Array([2n ** 63n])), "int64", undefined],
    ["float above int64", new Tensor(new Float64Array([2 ** 63])), "int64", undefined],
    ["float in int64", new Tensor(new Float64Array([2 ** 62])), "int64", [2n ** 62n]],
    ["above uint8", new Tensor(new Int16Array([300])), "uint8", undefined],
    ["uint64 in uint8", new Tensor(new BigUint64Array([255n])), "uint8", [255]],
    ["a fraction", new Tensor(new Float32Array([3.5])), "int64", undefined],
    ["NaN", new Tensor(new Float32Array([Number.NaN])), "int32", undefined],
    ["a bool", new Tensor(new Uint8Array([1]), [1], "bool"), "float32", [1]],
    ["bytes of 0 and 1", new Tensor(new Uint8Array([1])), "bool", [1]],
    ["bytes of others", new Tensor(new Uint8Array([2])), "bool", undefined],
    ["a float for a bool", new Tensor(new Float32Array([1])), "bool", undefined],
    ["strings", new Tensor(["a"]), "float32", undefined],
    ["a number for a string", new Tensor(new Float32Array([1])), "str", undefined],
  ];
  test.each(fits)("%s", (_, tensor, dtype, wanted) => {
    const schema = { name: "m", inputs: [new TensorSpec("x", dtype, [null])], outputs: [] };
    const made = (): unknown => fitted(tensor, schema, true).get("x")?.data;
    if (wanted === undefined) {
      expect(made).toThrow(ArgumentError);
    } else {
      expect([...(made() as Iterable<unknown>)]).toEqual(wanted);
    }
  });

  test("of arrays within arrays", () => {
    const shape = (value: unknown, dtype: TensorSpec["dtype"]): unknown => {
      const schema = { name: "m", inputs: [new TensorSpec("x", dtype, [null, 2])], outputs: [] };
      const tensor = fitted(value, schema, true).get("x");
      return [tensor?.dtype, tensor?.toNested()];
    };
    expect(
      shape(
        [
          [1, 2],
          [3, 4],
        ],
        "int8",
      ),
    ).toEqual([
      "int8",
      [
        [1, 2],
        [3, 4],
      ],
    ]);
    expect(shape([[1, 2n ** 64n - 1n]], "uint64")).toEqual(["uint64", [[1n, 2n ** 64n - 1n]]]);
    expect(shape([[true, false]], "bool")).toEqual(["bool", [[true, false]]]);
    expect(shape([["a", "b"]], "str")).toEqual(["str", [["a", "b"]]]);
    for (const value of [[[1, 2], [3]], [[1], [2, 3]], [1, [2]], [[1, "a"]], [[null, 1]], [[2n ** 64n, 1]], [1, 2]]) {
      expect(() => shape(value, "float64")).toThrow(ArgumentError);
    }
  });
});

describe("a tensor", () => {
  test("has as many values as its shape", () => {
    for (const shape of [[3], [2, 2], [-1], [1.5], []]) {
      expect(() => new Tensor(new Float32Array(2), shape)).toThrow(ArgumentError);
    }
    expect(() => new Tensor(new Float32Array(2), [2], "int8")).toThrow(ArgumentError);
    expect(() => new Tensor({} as Float32Array)).toThrow(ArgumentError);
  });

  test("of halves and of clamped bytes is held as answers are", () => {
    const pixels = new Uint8ClampedArray([1, 2]);
    const tensor = new Tensor(pixels);
    pixels[0] = 9;
    expect([tensor.dtype, tensor.data]).toEqual(["uint8", new Uint8Array([9, 2])]);
    const { Float16Array } = globalThis as { Float16Array?: { from(values: number[]): Float32Array } };
    const halves = Float16Array?.from([0.5, 65_504]);
    // Node has them from version 24 on.
    const held =
      halves === undefined ? new Tensor(new Float32Array([0.5, 65_504]), [2], "float16") : new Tensor(halves);
    expect([held.dtype, held.data]).toEqual(["float16", new Float32Array([0.5, 65_504])]);
  });

  test("shares its data with its parts", () => {
    const tensor = new Tensor(new Int32Array([1, 2, 3, 4, 5, 6]), [3, 2]);
    (tensor.at(1).data as Int32Array)[0] = 9;
    expect(tensor.toNested()).toEqual([
      [1, 2],
      [9, 4],
      [5, 6],
    ]);
    expect(tensor.slice(1, 3).shape).toEqual([2, 2]);
    expect(JSON.stringify(tensor.reshape([2, 3]))).toBe("[[1,2,9],[4,5,6]]");
    expect(tensor.slice(0, 1).at(0).slice(1, 2).item()).toBe(2);
    for (const wrong of [
      () => tensor.item(),
      () => tensor.at(3),
      () => tensor.slice(2, 1),
      () => tensor.at(0).at(0).at(0),
    ]) {
      expect(wrong).toThrow(ArgumentError);
    }
  });
});
