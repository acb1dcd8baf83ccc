/** What a type checker sees: `tsc` judges these lines; running them only shows that they are there. */

import { describe, expect, expectTypeOf, inject, test } from "vitest";
import type { Model } from "../src/index.js";
import { type BatchResult, Client, type Prediction, RefusedError, Tensor, type Value } from "../src/index.js";
import { type ProblemCode, QueueFullError } from "../src/problems.js";

const client = new Client(inject("url"));

describe("a prediction", () => {
  test("has tensors for arrays, and plain values for anything else", async () => {
    const plain = await client.predict("affine", [1, 2, 3, 4]);
    expectTypeOf(plain).toEqualTypeOf<Prediction<Record<string, Value>>>();
    const arrays = await client.predict("affine", new Float32Array(4));
    expectTypeOf(arrays).toEqualTypeOf<Prediction<Record<string, Tensor>>>();
    const named = await client.predict("affine", { x: new Tensor(new Float64Array(4)) });
    expectTypeOf(named.outputs).toEqualTypeOf<Record<string, Tensor>>();
    expect([plain.outputs["y"], arrays.outputs["y"]?.data, named.output.shape]).toBeDefined();
  });

  test("has what the encoding answers", async () => {
    const binary = await client.predict("affine", [1, 2, 3, 4], { encoding: "binary" });
    expectTypeOf(binary.outputs).toEqualTypeOf<Record<string, Tensor>>();
    const json = await client.predict("affine", new Float32Array(4), { encoding: "json" });
    expectTypeOf(json.outputs).toEqualTypeOf<Record<string, Value>>();
    expect([binary, json]).toHaveLength(2);
  });

  test("has the outputs that the caller names", async () => {
    const { outputs, output } = await client.predict<{ y: number[] }>("affine", [1, 2, 3, 4]);
    expectTypeOf(outputs).toEqualTypeOf<{ y: number[] }>();
    expectTypeOf(output).toEqualTypeOf<number[]>();
    const { y } = (await client.predict<{ y: Tensor<"float32"> }>("affine", new Float32Array(4))).outputs;
    expectTypeOf(y.data).toEqualTypeOf<Float32Array>();
    expectTypeOf<Tensor<"int64">["data"]>().toEqualTypeOf<BigInt64Array>();
    expectTypeOf<Tensor<"str">["data"]>().toEqualTypeOf<(string | Uint8Array)[]>();
    expect(output).toEqual(outputs.y);
  });

  test("takes no options that there are not", () => {
    // @ts-expect-error - a priority is one of three
    const urgent = (): Promise<unknown> => client.predict("affine", [1], { priority: "urgent" });
    // @ts-expect-error - versions are strings
    const numbered = (): Promise<unknown> => client.predict("affine", [1], { version: 1 });
    // @ts-expect-error - there is no such option
    const seconds = (): Promise<unknown> => client.predict("affine", [1], { timeout: 1 });
    expect([urgent, numbered, seconds]).toHaveLength(3);
  });
});

describe("a batch", () => {
  test("has columns of tensors for arrays, and of values for rows", async () => {
    const rows = await client.predictBatch("affine", [[1, 2, 3, 4]]);
    expectTypeOf(rows).toEqualTypeOf<BatchResult<Record<string, Value[]>>>();
    expectTypeOf(rows.at(0)).toEqualTypeOf<Record<string, Value>>();
    const arrays = await client.predictBatch("affine", new Float32Array(8));
    expectTypeOf(arrays.outputs).toEqualTypeOf<Record<string, Tensor>>();
    expectTypeOf(arrays.at(0)).toEqualTypeOf<Record<string, Tensor>>();
    for await (const part of client.iterBatch("affine", new Float32Array(8))) {
      expectTypeOf(part).toEqualTypeOf<BatchResult<Record<string, Tensor>>>();
      expect(part.length).toBe(2);
    }
  });

  test("that is a stream has outputs or an error for each row", async () => {
    for await (const answer of client.predictStream<{ y: number[] }>("affine", [[1, 2, 3, 4]])) {
      if (answer.error === undefined) {
        expectTypeOf(answer.outputs).toEqualTypeOf<{ y: number[] }>();
        expect(answer.outputs.y).toEqual([3, 5, 7, 9]);
      }
    }
  });
});

test("documents are those of the server", async () => {
  expectTypeOf(client.models.show).returns.resolves.toEqualTypeOf<Model>();
  expectTypeOf<Model["aliases"]>().toEqualTypeOf<{ [name: string]: string }>();
  expect((await client.models.show("affine")).name).toBe("affine");
});

test("errors are classes with codes", () => {
  const error: unknown = new QueueFullError("full", { retryAfterMs: 1000, requestId: "r" });
  expect(error).toBeInstanceOf(RefusedError);
  if (error instanceof QueueFullError) {
    expectTypeOf(error.retryAfterMs).toEqualTypeOf<number | undefined>();
    expect([error.code, error.status, error.retryable, error.name]).toEqual([
      "queue_full",
      503,
      true,
      "QueueFullError",
    ]);
  }
  expectTypeOf<"queue_full">().toExtend<ProblemCode>();
  expectTypeOf<"queue_ful">().not.toExtend<ProblemCode>();
});
