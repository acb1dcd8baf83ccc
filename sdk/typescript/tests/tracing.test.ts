/** Hooks, and spans of OpenTelemetry, whose trace the server takes part in. */

import { SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-base";
import { afterEach, describe, expect, inject, test } from "vitest";
import { Client, type Hook, Tensor } from "../src/index.js";
import { OpenTelemetryHook } from "../src/opentelemetry.js";
import { FaultyServer } from "./faulty.js";

const exporter = new InMemorySpanExporter();
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
const hook = new OpenTelemetryHook(provider.getTracer("tests"));
const ROW = [1, 2, 3, 4];

afterEach(() => exporter.reset());

describe("spans", () => {
  test("have the call's words, and their context goes to the server", async () => {
    const sent: Headers[] = [];
    const client = new Client(inject("url"), {
      hook,
      fetch: (url, init) => {
        sent.push(new Headers(init.headers));
        return fetch(url, init);
      },
    });
    const { requestId } = await client.predict("affine", new Tensor(Float32Array.from(ROW)));
    const [asked, span] = exporter.getFinishedSpans();
    expect([asked?.name, span?.name]).toEqual(["GET /v2/models/{name}", "POST /v2/models/{name}/infer"]);
    const { port } = new URL(inject("url"));
    expect(span?.attributes).toEqual({
      "http.request.method": "POST",
      "url.full": `${inject("url")}/v2/models/affine/infer`,
      "url.template": "/v2/models/{name}/infer",
      "server.address": "127.0.0.1",
      "server.port": Number(port),
      "penstock.request_id": requestId,
      "http.response.status_code": 200,
    });
    expect(span?.kind).toBe(SpanKind.CLIENT);
    const { traceId, spanId } = span?.spanContext() ?? {};
    expect(sent[1]?.get("traceparent")).toBe(`00-${traceId}-${spanId}-01`);
  });

  test("say what failed", async () => {
    const client = new Client(inject("url"), { hook });
    await expect(client.predict("nope", ROW)).rejects.toThrow();
    const [span] = exporter.getFinishedSpans();
    expect(span?.attributes).toMatchObject({ "error.type": "model_not_found", "http.response.status_code": 404 });
    expect(span?.status.code).toBe(SpanStatusCode.ERROR);
    for await (const answer of client.predictStream("affine", [ROW])) {
      expect(answer.outputs).toEqual({ y: [3, 5, 7, 9] });
    }
    expect(exporter.getFinishedSpans().at(-1)?.name).toBe("POST /predict/batch");
  });

  test("have an event for what is sent again", async () => {
    const faulty = new FaultyServer(1);
    faulty.always = "refuse 503";
    const client = new Client(await faulty.start(), { hook, retries: { attemptsMax: 3, backoffMs: 1 } });
    await expect(client.predict("m", { id: "x" })).rejects.toThrow("3 attempts");
    await faulty.stop();
    const [span] = exporter.getFinishedSpans();
    expect(span?.events.map((event) => [event.name, event.attributes?.["error.type"]])).toEqual([
      ["retry", "queue_full"],
      ["retry", "queue_full"],
    ]);
    expect(span?.attributes).toMatchObject({ "http.request.resend_count": 2, "error.type": "queue_full" });
  });
});

test("a hook of one's own is told how a call ends that its caller gives up", async () => {
  const told: unknown[] = [];
  const own: Hook = {
    started: (...words) => {
      told.push(words.slice(0, 2));
      return { traceparent: () => undefined, retried: () => {}, ended: (...end) => told.push(end) };
    },
  };
  const reason = new Error("enough");
  const client = new Client(inject("url"), { hook: own });
  await expect(client.predict("affine", ROW, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  expect(told).toEqual([
    ["POST", "/predict"],
    [undefined, reason],
  ]);
});
