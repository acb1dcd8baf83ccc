/** The golden vectors of sdk/contract/vectors hold for the SDK, in what it sends and in what it reads. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decode } from "@msgpack/msgpack";
import { describe, expect, test } from "vitest";
import { bytesOf } from "../src/binary.js";
import { type DType, datatypeOf, FORMS, fromHalf, type TypedArray } from "../src/dtypes.js";
import { Client, type Encoding, type Prediction, RefusedError, Tensor } from "../src/index.js";
import { CLASSES } from "../src/problems.js";
import { ROOT } from "./serving.js";

interface Spec {
  name: string;
  dtype: DType | "bytes";
  shape: number[];
  varies?: boolean;
}

interface Case {
  name: string;
  encoding: Encoding | "raw";
  inputs: Spec[];
  outputs: Spec[];
  body?: string;
  body_hex?: string;
  row?: Row;
  problem?: string;
  detail?: string;
  model: string;
  version: string;
  length?: number;
  values_hex: Record<string, string>;
  texts?: Record<string, unknown>;
}

interface Row {
  model: string;
  version: string;
  length?: number;
  values_hex: Record<string, string>;
  texts?: Record<string, unknown>;
}

interface Call {
  name: string;
  model: string;
  version?: string;
  encoding: Encoding;
  takes: object[];
  inputs?: unknown;
  arrays?: Record<string, { dtype: DType; shape: number[]; values_hex: string }>;
  bare?: boolean;
  request: { target: string; fields: Record<string, string>; body?: string; body_hex?: string };
}

function cases<T>(file: string): T[] {
  return JSON.parse(readFileSync(join(ROOT, "sdk/contract/vectors", file), "utf8")).cases;
}

const unhex = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, "hex"));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const dtypeOf = (spec: Spec): DType => (spec.dtype === "bytes" ? "str" : spec.dtype);

/** What GET /v2/models/NAME answers. */
function described(name: string, inputs: Spec[], outputs: Spec[]): object {
  const specs = (all: Spec[]): object[] =>
    all.map((spec) => ({
      name: spec.name,
      datatype: datatypeOf(dtypeOf(spec)),
      shape: [-1, ...spec.shape.map((extent, at) => (spec.varies && at === 0 ? -1 : extent))],
    }));
  return { name, inputs: specs(inputs), outputs: specs(outputs) };
}

interface Sent {
  url: string;
  headers: Record<string, string>;
  body: Uint8Array;
}

/** A client that is told what the model takes, and is answered with `reply`; and what it has sent. */
function scripted(model: object, reply: Response): { client: Client; sent: Sent[] } {
  const sent: Sent[] = [];
  const client = new Client("http://h:1", {
    retries: { attemptsMax: 1 },
    fetch: async (url, init) => {
      if (init.method === "GET") {
        return Response.json(model);
      }
      const body = new Uint8Array(await new Response(init.body as BodyInit).arrayBuffer());
      sent.push({ url, headers: init.headers as Record<string, string>, body });
      return reply;
    },
  });
  return { client, sent };
}

/** A tensor of the bytes of a row; strings as the vector has them. */
function tensorOf(spec: Spec, row: Row): Tensor {
  const dtype = dtypeOf(spec);
  const shape = spec.varies ? [row.length as number, ...spec.shape.slice(1)] : spec.shape;
  if (dtype === "str") {
    return new Tensor([row.texts?.[spec.name]].flat(8) as string[], shape);
  }
  const { buffer } = unhex(row.values_hex[spec.name] as string);
  if (dtype === "float16") {
    return new Tensor(Float32Array.from(new Uint16Array(buffer), fromHalf), shape, dtype);
  }
  return new Tensor(new FORMS[dtype].holder(buffer), shape, dtype);
}

function rowInputs(rowCase: Case, row: Row, plain: boolean): Record<string, unknown> {
  const tensors = rowCase.inputs.map((spec): [string, Tensor] => [spec.name, tensorOf(spec, row)]);
  return Object.fromEntries(tensors.map(([name, tensor]) => [name, plain ? tensor.toNested() : tensor]));
}

const called = ({ encoding, name }: Case): string => `${encoding}: ${name}`;
const REQUESTS = cases<Case>("requests.json").map((one): [string, Case] => [called(one), one]);
const ROWS = REQUESTS.filter(([, one]) => one.row !== undefined);
const NAMED: Record<string, number> = { NaN: Number.NaN, Infinity: Infinity, "-Infinity": -Infinity };

/** The bytes that a value of a body stands for, by rules of docs/wire-format.md that are written anew here. */
function bytesSent(value: unknown, spec: Spec): string {
  if (value instanceof Uint8Array) {
    return hex(value);
  }
  const flat = [value].flat(8).map((one) => (typeof one === "string" ? NAMED[one] : one)) as number[];
  const dtype = dtypeOf(spec) as Exclude<DType, "str">;
  const big = dtype === "int64" || dtype === "uint64";
  const held = FORMS[dtype].holder as unknown as { from(values: unknown[]): TypedArray };
  return hex(bytesOf(new Tensor(held.from(big ? flat.map(BigInt) : flat.map(Number)), undefined, dtype)));
}

/** JSON as JavaScript reads it, with whole numbers as bigints. */
function parsed(text: string): Record<string, Record<string, unknown>> {
  const marked = text.replace(/"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/g, (found) =>
    /^-?\d{15,}$/.test(found) ? `"\\u0001${found}"` : found,
  );
  return JSON.parse(marked, (_, value) =>
    typeof value === "string" && value.startsWith("\u0001") ? BigInt(value.slice(1)) : value,
  );
}

describe.each(["json", "msgpack"] as const)("what is sent as %s is the row", (encoding) => {
  describe.each([true, false])("of plain values: %s", (plain) => {
    test.each(ROWS)("%s", async (_, one) => {
      const row = one.row as Row;
      const answer =
        encoding === "json"
          ? '{"model":"m","version":"1","outputs":{}}'
          : unhex("83a56d6f64656ca16da776657273696f6ea131a76f75747075747380");
      const { client, sent } = scripted(described("m", one.inputs, []), new Response(answer));
      await client.predict(row.model || "m", rowInputs(one, row, plain), {
        encoding,
        version: row.version || undefined,
      });
      const { body } = sent[0] as Sent;
      const text = Buffer.from(body).toString();
      const document =
        encoding === "json" ? parsed(text) : (decode(body, { useBigInt64: true }) as ReturnType<typeof parsed>);
      expect(document["model"]).toBe(row.model || "m");
      expect(document["version"]).toBe(row.version || undefined);
      for (const spec of one.inputs) {
        const value = document["inputs"]?.[spec.name];
        if (dtypeOf(spec) === "str") {
          expect([value].flat(8)).toEqual([row.texts?.[spec.name]].flat(8));
        } else {
          expect(bytesSent(value, spec)).toBe(row.values_hex[spec.name]);
        }
      }
    });
  });
});

describe("binary tensors are the row's bytes", () => {
  test.each(ROWS)("%s", async (_, one) => {
    const row = one.row as Row;
    const head = '{"model_name":"m","model_version":"1","outputs":[]}';
    const fields = { "Inference-Header-Content-Length": String(head.length) };
    const { client, sent } = scripted(described("m", one.inputs, []), new Response(head, { headers: fields }));
    const tensors = rowInputs(one, row, false);
    await client.predict("m", tensors, { encoding: "binary" });
    const { body, headers } = sent[0] as Sent;
    let end = Number(headers["Inference-Header-Content-Length"]);
    const document = JSON.parse(Buffer.from(body.subarray(0, end)).toString());
    expect(document.inputs.map((input: Spec) => input.name)).toEqual(one.inputs.map((spec) => spec.name));
    for (const [at, spec] of one.inputs.entries()) {
      const { datatype, shape, parameters } = document.inputs[at];
      expect([datatype, shape]).toEqual([datatypeOf(dtypeOf(spec)), [1, ...(tensors[spec.name] as Tensor).shape]]);
      const data = Buffer.from(body.subarray(end, end + parameters.binary_data_size));
      end += data.length;
      if (dtypeOf(spec) === "str") {
        const texts = ([row.texts?.[spec.name]].flat(8) as string[]).map((text) => Buffer.from(text));
        const framed = texts.map((text) => Buffer.concat([Buffer.from(Uint32Array.of(text.length).buffer), text]));
        expect(data).toEqual(Buffer.concat(framed));
      } else {
        expect(hex(data)).toBe(row.values_hex[spec.name]);
      }
    }
    expect(end).toBe(body.length);
  });
});

describe("what is refused is thrown", () => {
  test.each(REQUESTS.filter(([, one]) => one.problem !== undefined))("%s", async (_, one) => {
    const code = one.problem as string;
    const Kind = CLASSES.get(code) as typeof RefusedError;
    const problem = { code, detail: one.detail ?? code, request_id: "r" };
    const fields = { status: Kind.problem?.status as number, headers: { "Content-Type": "application/problem+json" } };
    const { client } = scripted({}, new Response(JSON.stringify(problem), fields));
    const error = await client.predict("m", [1]).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Kind);
    expect(error).toBeInstanceOf(RefusedError);
    expect(error).toMatchObject({ code, requestId: "r", detail: problem.detail, title: Kind.problem?.title });
  });
});

describe("what is answered is read", () => {
  const replies = cases<Case>("replies.json").filter((one) => one.encoding !== "raw");
  test.each(replies.map((one): [string, Case] => [called(one), one]))("%s", async (_, one) => {
    const body = one.body ?? unhex(one.body_hex as string);
    const { client } = scripted(described(one.model, [], one.outputs), new Response(body));
    const answer: Prediction = await client.predict("m", [1], { encoding: one.encoding as "json" });
    expect([answer.model, answer.version]).toEqual([one.model, one.version]);
    expect(Object.keys(answer.outputs)).toEqual(one.outputs.map((spec) => spec.name));
    for (const spec of one.outputs) {
      const value = answer.outputs[spec.name];
      if (dtypeOf(spec) === "str") {
        expect(value).toEqual(one.texts?.[spec.name]);
        continue;
      }
      // As the row has it: an output that varies is cut to the row's length.
      const all = one.values_hex[spec.name] as string;
      const cut = spec.varies ? (all.length / (spec.shape[0] as number)) * (one.length as number) : all.length;
      expect(bytesSent(value, spec)).toBe(all.slice(0, cut));
    }
  });
});

/** A plain value of calls.json, whose strings stand for what JSON cannot write. */
function plainValue(value: unknown): unknown {
  if (typeof value === "string" && value.startsWith("$")) {
    return NAMED[value.slice(1)];
  }
  if (Array.isArray(value)) {
    return value.map(plainValue);
  }
  if (typeof value !== "object" || value === null) {
    return value;
  }
  if ("$bytes" in value) {
    return unhex(String(value.$bytes));
  }
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plainValue(item)]));
}

describe("a call is this request", () => {
  test.each(cases<Call>("calls.json").map((one): [string, Call] => [one.name, one]))("%s", async (_, one) => {
    const made = Object.entries(one.arrays ?? {}).map(([name, { dtype, shape, values_hex }]): [string, Tensor] => {
      const spec = { name, dtype, shape };
      return [name, tensorOf(spec, { model: "", version: "", values_hex: { [name]: values_hex } })];
    });
    const inputs =
      one.arrays === undefined ? plainValue(one.inputs) : one.bare ? made[0]?.[1] : Object.fromEntries(made);
    const { client, sent } = scripted({ name: one.model, inputs: one.takes, outputs: [] }, new Response("{}"));
    const call = client.predict(one.model, inputs, { encoding: one.encoding as "json", version: one.version });
    // What answers here is no Penstock; what counts is what was sent.
    await expect(call).rejects.toMatchObject({ name: "ProtocolError" });
    const { url, headers, body } = sent[0] as Sent;
    expect(url).toBe(`http://h:1${one.request.target}`);
    expect(hex(body)).toBe(one.request.body_hex ?? hex(Buffer.from(one.request.body as string)));
    const { "User-Agent": agent, "X-Request-Id": id, "X-Request-Timeout-Ms": limit, ...fields } = headers;
    expect(fields).toEqual(one.request.fields);
    expect([agent, id, limit]).toEqual([
      expect.stringMatching(/^penstock-client\/\d/),
      expect.stringMatching(/^[0-9a-f]{18}-\d+$/),
      expect.stringMatching(/^(60000|599\d\d)$/),
    ]);
  });
});
