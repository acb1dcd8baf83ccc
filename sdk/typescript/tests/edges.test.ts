/** Names, strings and shapes at the edges of what a program may meet. */

import { describe, expect, test } from "vitest";
import { readOutputs } from "../src/binary.js";
import {
  ArgumentError,
  BatchResult,
  Client,
  type ClientOptions,
  PenstockError,
  ProtocolError,
  Tensor,
} from "../src/index.js";
import { fromJson, toJson } from "../src/json.js";
import { fromMsgpack, toMsgpack } from "../src/msgpack.js";
import { failedChunk, putTogether } from "../src/results.js";

type Answer = () => Response;

function scripted(answers: Answer[], options: ClientOptions = {}): Client {
  let sent = 0;
  return new Client("http://h:1", {
    ...options,
    fetch: async () => {
      sent += 1;
      return (answers[sent - 1] as Answer)();
    },
  });
}

function lost(code: string, syscall: string): Answer {
  return () => {
    throw new TypeError("fetch failed", { cause: Object.assign(new Error(code), { code, syscall }) });
  };
}

const QUEUE_FULL: Answer = () =>
  new Response('{"code":"queue_full","detail":"full"}', {
    status: 503,
    headers: { "Content-Type": "application/problem+json", "Retry-After": "0" },
  });

describe("what an earlier attempt may have run", () => {
  const retries = { attemptsMax: 2, backoffMs: 1 };
  test.each([
    ["no connection", lost("ECONNREFUSED", "connect")],
    ["a refusal", QUEUE_FULL],
  ])("is still said after %s", async (_, last) => {
    const client = scripted([lost("ECONNRESET", "read"), last], { repeatable: true, retries });
    await expect(client.predict("m", [1])).rejects.toMatchObject({ mayHaveRun: true, attempts: 2 });
  });

  test.each([
    ["no connection", lost("ECONNREFUSED", "connect")],
    ["a refusal", QUEUE_FULL],
  ])("is not said where each met %s", async (_, each) => {
    const client = scripted([each, each], { repeatable: true, retries });
    await expect(client.predict("m", [1])).rejects.toMatchObject({ mayHaveRun: false, attempts: 2 });
  });
});

describe("JSON with a number that is a bigint", () => {
  const long = 12345678901234567890n;

  test("and a string of many megabytes", () => {
    const text = 'x\\"\\\\'.repeat(3_000_000);
    const found = fromJson(`{"a":${long},"b":"${text}"}`) as Record<string, unknown>;
    expect([found["a"], (found["b"] as string).length]).toEqual([long, 9_000_000]);
  });

  test.each(["\0bigint:12", "\0n12", "\0s", "\0", "a\0n1", '\0n"', "\\", '"', '\\"', "1234567890123456789"])(
    "and the string %j, as a value and a name",
    (text) => {
      const document = { [text]: [text, { [text]: text }], a: long };
      expect(fromJson(toJson(document))).toEqual(document);
      expect(fromJson(toJson(document).replaceAll('":', '" : '))).toEqual(document);
    },
  );

  test("and exponents of many digits", () => {
    expect(fromJson(`[${long}, 1e-0000000000000000001, 1E+0000000000000000001, -1234567890123456789]`)).toEqual([
      long,
      0.1,
      10,
      -1234567890123456789n,
    ]);
  });
});

test("a string that begins with a byte order mark keeps it", () => {
  const text = "\ufeffabc";
  expect(fromMsgpack(toMsgpack({ [text]: text }))).toEqual({ [text]: text });
  expect(fromJson(toJson(text))).toBe(text);
  const outputs = [{ name: "y", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 10 } }];
  const reply = binary({ model_name: "m", model_version: "1", outputs }, [6, 0, 0, 0, 0xef, 0xbb, 0xbf, 97, 98, 99]);
  expect(readOutputs(reply).outputs.get("y")?.data).toEqual([text]);
});

test("a string that is shorter than it says is no answer", () => {
  const outputs = [{ name: "y", datatype: "BYTES", shape: [1], parameters: { binary_data_size: 5 } }];
  const reply = binary({ model_name: "m", model_version: "1", outputs }, [6, 0, 0, 0, 97]);
  expect(() => readOutputs(reply)).toThrow(RangeError);
});

function binary(head: object, data: number[]): Parameters<typeof readOutputs>[0] {
  const text = JSON.stringify(head);
  const headers = new Headers({ "Inference-Header-Content-Length": String(text.length) });
  return { status: 200, headers, body: Uint8Array.from([...new TextEncoder().encode(text), ...data]) };
}

describe("parts of a batch", () => {
  const failed = (first: number): BatchResult => failedChunk("m", first, 1, new PenstockError("no"));
  const part = (first: number, rows: number, name: string, column: Tensor | number[]): BatchResult =>
    new BatchResult("m", ["1"], first, rows, Object.fromEntries([[name, column]]));

  test.each(["constructor", "__proto__", "toString"])(
    "with an output named %s and a failed chunk on either side",
    (name) => {
      const plain = putTogether("m", [failed(0), part(1, 1, name, [1]), failed(2)]);
      expect(Object.entries(plain.outputs)).toEqual([[name, [null, 1, null]]]);
      const arrays = putTogether("m", [failed(0), part(1, 1, name, new Tensor(Float32Array.of(1)))]);
      expect(Object.values(arrays.outputs).map((column) => [...(column as Tensor).data])).toEqual([[Number.NaN, 1]]);
    },
  );

  test("with more strings than a call takes arguments", () => {
    const texts = new Tensor(Array<string>(300_000).fill("a"));
    expect((putTogether("m", [part(0, 300_000, "y", texts)]).outputs["y"] as Tensor).shape).toEqual([300_000]);
  });

  test("whose tensors differ are not mixed up", () => {
    const wide = part(0, 2, "y", new Tensor(new Float32Array(6), [2, 3]));
    const narrow = part(2, 2, "y", new Tensor(new Float32Array(2), [2, 1]));
    const whole = part(2, 2, "y", new Tensor(new Int32Array(6), [2, 3]));
    const message = /outputs.y is float32\[3\] in one chunk and .* in another/;
    expect(() => putTogether("m", [wide, narrow])).toThrow(message);
    expect(() => putTogether("m", [wide, whole])).toThrow(message);
  });
});

test("half a row of a tensor is none", () => {
  expect(() => new Tensor(new Float32Array(8), [2, 4]).at(0.5)).toThrow(ArgumentError);
});

describe("what has no form is an ArgumentError", () => {
  const client = scripted([]);
  test.each([
    ["half a surrogate pair in a name", () => client.predict("\ud800", new Float32Array(1)), /surrogate/],
    ["the same in a question", () => client.models.page({ after: "\ud800" }), /surrogate/],
    ["a date that is none", () => client.predict("m", { x: new Date(Number.NaN) }), /date/],
  ])("%s", async (_, ask, message) => {
    const error = await (ask as () => Promise<unknown>)().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ArgumentError);
    expect(String(error)).toMatch(message);
  });

  test("an address with a password, which is not told again", () => {
    expect(() => new Client("http://user:secret@h:1")).toThrow(ArgumentError);
    expect(() => new Client("http://user:secret@h:1")).not.toThrow(/secret/);
  });
});

test.each(["null", "5", "[]", '{"outputs":null}'])("a line that is %s is no answer to a row", async (line) => {
  const client = scripted([() => new Response(`${line}\n`)]);
  const error = await client
    .predictStream("m", [[1]])
    .next()
    .catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(ProtocolError);
});

test("a line that is no UTF-8 is no answer to a row", async () => {
  const client = scripted([() => new Response(Uint8Array.of(0x22, 0xff, 0x22, 0x0a))]);
  await expect(client.predictStream("m", [[1]]).next()).rejects.toBeInstanceOf(ProtocolError);
});

test("a line in pieces of a byte is one, with its characters whole", async () => {
  const bytes = new TextEncoder().encode('{"outputs":{"y":"\u00e9\u{1f600}"}}\n');
  const pieces = (): ReadableStream<Uint8Array> =>
    new ReadableStream({
      start(controller) {
        for (const byte of bytes) {
          controller.enqueue(Uint8Array.of(byte));
        }
        controller.close();
      },
    });
  const { value } = await scripted([() => new Response(pieces())])
    .predictStream("m", [[1]])
    .next();
  expect(value?.outputs).toEqual({ y: "\u00e9\u{1f600}" });
});

test("a model may be called as a word of a route, or as what every object has", async () => {
  const routes: string[] = [];
  const hook = {
    started: (_: string, route: string) => {
      routes.push(route);
      return { traceparent: () => undefined, retried: () => {}, ended: () => {} };
    },
  };
  const client = scripted([], { hook, retries: { attemptsMax: 1 } });
  for (const name of ["models", "constructor", "__proto__"]) {
    await client.models.load(name).catch(() => {});
  }
  expect(routes).toEqual(Array(3).fill("/models/{name}/load"));
});

test("an option that is undefined is as if it was not given", async () => {
  const seen: Headers[] = [];
  const client = new Client("http://h:1", {
    retries: { attemptsMax: undefined, backoffMs: undefined },
    fetch: async (_, init) => {
      seen.push(new Headers(init.headers));
      return Response.json({ version: "1", outputs: [{ y: 1 }] });
    },
  });
  await client.predictBatch("m", [[1]], { priority: undefined });
  await client.models.promote("m", "1", { timeoutMs: undefined });
  expect(seen[0]?.get("x-request-priority")).toBe("batch");
  expect(seen[1]?.has("x-request-timeout-ms")).toBe(false);
});

test("what gives rows may hold arrays", async () => {
  const rows = {
    data: Float32Array.of(1, 2),
    *[Symbol.iterator]() {
      yield* this.data;
    },
  };
  const client = scripted([() => Response.json({ version: "1", outputs: [{ y: 1 }, { y: 2 }] })]);
  expect((await client.predictBatch("m", rows)).outputs["y"]).toEqual([1, 2]);
});

test("a stream of an array would be one of its numbers", async () => {
  await expect(scripted([]).predictStream("m", new Float32Array(4)).next()).rejects.toBeInstanceOf(ArgumentError);
});
