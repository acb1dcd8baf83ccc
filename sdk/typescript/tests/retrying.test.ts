/** What is sent again, when, and with what: the request core before a scripted fetch, and timers that run at once. */

import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import {
  ArgumentError,
  Client,
  type ClientOptions,
  ConnectError,
  ConnectionLostError,
  PenstockError,
  type PredictOptions,
  ProtocolError,
  RefusedError,
} from "../src/index.js";
import { DeadlineExceededError, QueueFullError } from "../src/problems.js";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] });
});
afterEach(() => {
  vi.useRealTimers();
});

type Outcome = () => Response;

const OK: Outcome = () => Response.json({ model: "m", version: "1", outputs: { y: 1 } });

/** As Node's fetch throws what befell a connection. */
function lost(cause: Record<string, unknown>): Outcome {
  return () => {
    throw new TypeError("fetch failed", { cause: Object.assign(new Error(String(cause["code"])), cause) });
  };
}

const NEVER_SENT = lost({ code: "ECONNREFUSED", syscall: "connect" });
const MAY_HAVE_RUN = lost({ code: "ECONNRESET", syscall: "read" });
const BABBLE = lost({ code: "HPE_INVALID_CONSTANT", name: "HTTPParserError" });

function refused(status: number, code?: string, retryAfter?: string): Outcome {
  const headers = { "Content-Type": "application/problem+json", ...(retryAfter && { "Retry-After": retryAfter }) };
  return () => new Response(JSON.stringify({ detail: "no", ...(code && { code }) }), { status, headers });
}

/** What became of a call that meets these outcomes in turn, what was sent, and how long it waited between. */
async function played(
  outcomes: Outcome[],
  client: ClientOptions = {},
  options: PredictOptions = {},
  ask: (made: Client) => Promise<unknown> = async (made) =>
    (await made.predict("m", [1], options as { version?: string })).output,
): Promise<{ ended: unknown; sent: RequestInit[]; waits: number[] }> {
  const sent: RequestInit[] = [];
  const waits: number[] = [];
  const made = new Client("http://h:1", {
    ...client,
    fetch: async (_, init) => {
      sent.push(init);
      return (outcomes[sent.length - 1] as Outcome)();
    },
    hook: {
      started: () => ({ traceparent: () => undefined, retried: (_, wait) => waits.push(wait), ended: () => {} }),
    },
  });
  const ended = ask(made).catch((error: unknown) => error);
  await vi.runAllTimersAsync();
  return { ended: await ended, sent, waits };
}

describe("a change", () => {
  const away = refused(503, "registry_unavailable");

  test("is sent again", async () => {
    const { sent } = await played([away, OK], {}, {}, (made) => made.models.promote("m", "1"));
    expect(sent.length).toBe(2);
  });

  test.each<[string, (made: Client) => Promise<unknown>]>([
    ["a rollback", (made) => made.models.rollback("m")],
    ["a new key", (made) => made.keys.create("me", "predict")],
  ])("is sent once if it is something else the second time: %s", async (_, ask) => {
    const { ended, sent } = await played([away, OK], {}, {}, ask);
    expect(ended).toBeInstanceOf(RefusedError);
    expect(sent.length).toBe(1);
  });
});

describe("is sent again", () => {
  test.each([
    ["what was never sent", NEVER_SENT],
    ["a name that is not known", lost({ code: "ENOTFOUND", syscall: "getaddrinfo" })],
    ["a connection that took too long", lost({ code: "UND_ERR_CONNECT_TIMEOUT" })],
    ["queue_full", refused(503, "queue_full")],
    ["too_many_requests", refused(429, "too_many_requests")],
    ["draining", refused(503, "draining")],
    ["request_timeout", refused(408, "request_timeout")],
    ["control_plane_unavailable", refused(502, "control_plane_unavailable")],
  ])("%s", async (_, first) => {
    const { ended, sent } = await played([first, OK]);
    expect([ended, sent.length]).toEqual([1, 2]);
    const [one, two] = sent.map((init) => new Headers(init.headers).get("x-request-id"));
    expect(one).toBe(two);
  });

  test.each([
    ["a connection that was lost", MAY_HAVE_RUN, ConnectionLostError],
    ["what a browser says", lost({}), ConnectionLostError],
    ["worker_died", refused(503, "worker_died"), RefusedError],
    ["deadline_exceeded", refused(504, "deadline_exceeded"), DeadlineExceededError],
    ["internal_error", refused(500, "internal_error"), RefusedError],
    ["a proxy's 503", refused(503), RefusedError],
    ["a proxy's 502", refused(502), RefusedError],
    ["a proxy's 429", refused(429), RefusedError],
    ["a code from the future", refused(503, "from_the_future"), RefusedError],
  ])("%s only where it is repeatable", async (_, first, Kind) => {
    expect((await played([first, OK])).ended).toBeInstanceOf(Kind);
    expect((await played([first, OK], {}, { repeatable: true })).ended).toBe(1);
    expect((await played([first, OK], { repeatable: true })).ended).toBe(1);
    expect((await played([first, OK], { repeatable: true }, { repeatable: false })).ended).toBeInstanceOf(Kind);
  });

  test.each([
    ["invalid_input", refused(422, "invalid_input")],
    ["model_not_found", refused(404, "model_not_found")],
    ["body_too_large", refused(413, "body_too_large")],
    ["a redirect", refused(302)],
    ["what is no HTTP", BABBLE],
  ])("never: %s", async (_, first) => {
    const { ended, sent } = await played([first, OK], { repeatable: true });
    expect(ended).toBeInstanceOf(PenstockError);
    expect(sent.length).toBe(1);
  });

  test("nothing that a caller gives up while it waits", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const aborting: Outcome = () => {
      setTimeout(() => controller.abort(reason), 1);
      return NEVER_SENT();
    };
    const { ended, sent } = await played([aborting, OK], {}, { signal: controller.signal });
    expect([ended, sent.length]).toEqual([reason, 1]);
  });

  test("GET, whatever befell it", async () => {
    let asked = 0;
    const client = new Client("http://h:1", {
      fetch: async () => {
        asked += 1;
        return asked === 1 ? MAY_HAVE_RUN() : Response.json({ name: "m", inputs: [], outputs: [] });
      },
    });
    const schema = client.schema("m");
    await vi.runAllTimersAsync();
    expect((await schema).name).toBe("m");
  });
});

describe("waits", () => {
  const retries = { attemptsMax: 8, backoffMs: 100, backoffMaxMs: 1000 };

  test("grow and differ", async () => {
    const outcomes = [...Array<Outcome>(7).fill(NEVER_SENT), OK];
    const { waits } = await played(outcomes, { retries, timeoutMs: Infinity });
    const bounds = [100, 200, 400, 800, 1000, 1000, 1000];
    expect(waits.length).toBe(bounds.length);
    expect(bounds.every((bound, at) => bound / 2 <= (waits[at] ?? 0) && (waits[at] ?? Infinity) <= bound)).toBe(true);
    expect((await played(outcomes, { retries, timeoutMs: Infinity })).waits).not.toEqual(waits);
  });

  test("are at least what the server asks for", async () => {
    const { waits } = await played([refused(503, "queue_full", "3"), refused(429, "too_many_requests", "0.5"), OK]);
    expect(waits[0]).toBeGreaterThanOrEqual(3000);
    expect(waits[0]).toBeLessThan(3100);
    expect(waits[1]).toBeGreaterThanOrEqual(500);
    const { waits: dated } = await played([refused(503, "queue_full", "Fri, 31 Dec 1999 23:59:59 GMT"), OK]);
    expect(dated[0]).toBeLessThanOrEqual(50);
  });

  test("that are too long are not begun", async () => {
    const asked = await played([refused(503, "queue_full", "31"), OK]);
    expect(asked.ended).toBeInstanceOf(QueueFullError);
    expect(asked.ended).toMatchObject({ retryAfterMs: 31_000, attempts: 1 });
    const late = await played([refused(503, "queue_full", "3"), OK], {}, { timeoutMs: 2000 });
    expect(late.ended).toBeInstanceOf(QueueFullError);
  });

  test("end after so many attempts", async () => {
    const { ended, sent } = await played(Array<Outcome>(9).fill(NEVER_SENT), { retries: { attemptsMax: 3 } });
    expect(ended).toBeInstanceOf(ConnectError);
    expect(ended).toMatchObject({ attempts: 3, mayHaveRun: false });
    expect((ended as Error).message).toMatch(
      /^no connection: ECONNREFUSED \(it was not run, 3 attempts, request \S+\)$/,
    );
    expect(sent.length).toBe(3);
    expect((await played([NEVER_SENT, OK], { retries: { attemptsMax: 1 } })).ended).toBeInstanceOf(ConnectError);
    for (const wrong of [{ attemptsMax: 0 }, { backoffMs: -1 }, { retryAfterMaxMs: Number.NaN }]) {
      expect(() => new Client("http://h", { retries: wrong })).toThrow(ArgumentError);
    }
  });
});

describe("what is sent", () => {
  test("says what is left of the time", async () => {
    const { sent } = await played([refused(503, "queue_full", "3"), OK], { timeoutMs: 10_000 });
    const [first, second] = sent.map((init) => Number(new Headers(init.headers).get("x-request-timeout-ms")));
    expect(first).toBe(10_000);
    expect(second).toBeLessThanOrEqual(7000);
    expect(second).toBeGreaterThan(6800);
    const limits: [number, string | null][] = [
      [0.2, "1"],
      [1e9, "86400000"],
      [Infinity, null],
    ];
    for (const [timeoutMs, field] of limits) {
      const one = await played([OK], {}, { timeoutMs });
      expect(new Headers(one.sent[0]?.headers).get("x-request-timeout-ms")).toBe(field);
    }
  });

  test("has the call's fields and no manners of a browser", async () => {
    const options = { priority: "interactive", receipt: true, reproducible: true, requestId: "r-1" } as const;
    const { sent } = await played([OK], { key: "psk_1" }, options);
    const init = sent[0] as RequestInit;
    expect([init.redirect, init.credentials, init.cache]).toEqual(["manual", "omit", undefined]);
    expect(init.headers).toMatchObject({
      Authorization: "Bearer psk_1",
      "X-Request-Id": "r-1",
      "X-Request-Priority": "interactive",
      "X-Penstock-Receipt": "true",
      "X-Penstock-Reproducible": "true",
    });
  });
});

describe("an answer that is none", () => {
  test.each<[string, () => Response]>([
    ["no JSON", () => new Response("<html>")],
    ["other JSON", () => Response.json([1])],
    ["no UTF-8", () => new Response(new Uint8Array([0xff]))],
    ["nothing", () => new Response()],
  ])("%s", async (_, outcome) => {
    const { ended, sent } = await played([outcome, OK], { repeatable: true });
    expect(ended).toBeInstanceOf(ProtocolError);
    expect(ended).toMatchObject({ mayHaveRun: true });
    expect(sent.length).toBe(1);
  });

  test("a refusal that says nothing", async () => {
    const { ended } = await played([() => new Response("<html>", { status: 418 })]);
    expect(ended).toMatchObject({ name: "ClientError", code: "", status: 418, retryable: false, mayHaveRun: false });
    expect((ended as Error).message).toMatch(/^an answer with status 418 that says no more \(status 418, request /);
  });

  test("a code that this version does not know", async () => {
    const problem = { code: "new", title: "New", detail: "d", request_id: "theirs", errors: [{ field: "f" }, 3] };
    const headers = { "Content-Type": "application/problem+json; charset=utf-8" };
    const { ended } = await played([() => Response.json(problem, { status: 503, headers })]);
    expect(ended).toMatchObject({
      name: "ServerError",
      code: "new",
      title: "New",
      requestId: "theirs",
      mayHaveRun: true,
    });
    expect((ended as RefusedError).fields).toEqual([{ field: "f" }]);
  });
});
