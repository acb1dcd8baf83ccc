/** A request that may have run is not sent again: thousands of calls against a server that fails in every way. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  Client,
  type ClientOptions,
  ConnectError,
  ConnectionLostError,
  PenstockError,
  Prediction,
  ProtocolError,
  RefusedError,
  TimedOutError,
} from "../src/index.js";
import { ModelError, QueueFullError, WorkerDiedError } from "../src/problems.js";
import { FAULTS, type Fault, FaultyServer } from "./faulty.js";

const CALLS = 6000;
const AT_ONCE = 32;
const RETRIES = { attemptsMax: 8, backoffMs: 0.5, backoffMaxMs: 2 };
// A server that says nothing is waited for so long.
const TIMEOUT_MS = 2000;

let faulty: FaultyServer;
let url: string;

beforeAll(async () => {
  faulty = new FaultyServer(9);
  url = await faulty.start();
});
afterEach(() => {
  faulty.always = undefined;
});
afterAll(() => faulty.stop());

type Ended = Prediction | PenstockError;

/** Whether a call with this end was given up before its time was over. */
const inTime = new WeakSet<Ended>();

async function calls(prefix: string, count: number, repeatable: boolean): Promise<Map<string, Ended>> {
  const client = new Client(url, { retries: RETRIES, timeoutMs: TIMEOUT_MS, repeatable });
  const outcomes = new Map<string, Ended>();
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < count) {
      const id = `${prefix}${next}`;
      next += 1;
      const started = performance.now();
      const ended: unknown = await client.predict("m", { id }).catch((error: unknown) => error);
      if (!(ended instanceof Prediction || ended instanceof PenstockError)) {
        throw ended;
      }
      outcomes.set(id, ended);
      if (performance.now() - started < TIMEOUT_MS - RETRIES.backoffMaxMs) {
        inTime.add(ended);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return outcomes;
}

/** What a caller may rely on, whatever happened to the request. */
function check(id: string, ended: Ended): void {
  const acted = faulty.acted.get(id) ?? 0;
  if (ended instanceof Prediction) {
    expect(ended.outputs).toEqual({ id });
    expect(acted).toBe(1);
    return;
  }
  expect(acted).toBeLessThanOrEqual(1);
  expect(ended.requestId).not.toBe("");
  if (!ended.mayHaveRun) {
    expect(acted).toBe(0);
  }
}

describe("of thousands of calls", () => {
  test("none runs twice that was not marked repeatable", async () => {
    const outcomes = await calls("a", CALLS, false);
    expect(outcomes.size).toBe(CALLS);
    for (const [id, ended] of outcomes) {
      check(id, ended);
    }
    expect(new Set(faulty.faults.keys())).toEqual(new Set(Object.keys(FAULTS)));
    const injected = [...faulty.faults].reduce((sum, [fault, count]) => sum + (fault === "answer" ? 0 : count), 0);
    expect(injected).toBeGreaterThan(5000);
    const ended = [...outcomes.values()];
    expect(ended.filter((one) => one instanceof Prediction).length).toBeGreaterThan(CALLS / 4);
    // What is safe to send again was, as long as there was time: hardly any call ends with a refusal that says so.
    const refused = ended.filter(
      (one) => one instanceof RefusedError && one.retryable && inTime.has(one),
    ) as RefusedError[];
    expect(refused.every((error) => error.attempts === RETRIES.attemptsMax)).toBe(true);
    expect(refused.length).toBeLessThan(CALLS / 50);
  }, 900_000);

  test("those that are repeatable come through", async () => {
    const count = 2000;
    const outcomes = await calls("r", count, true);
    const answered = [...outcomes].filter(([, ended]) => ended instanceof Prediction) as [string, Prediction][];
    for (const [id, ended] of answered) {
      expect(ended.outputs).toEqual({ id });
      expect(faulty.acted.get(id)).toBeGreaterThanOrEqual(1);
    }
    // All but those to whom no Penstock has answered, or whose time was over.
    for (const ended of outcomes.values()) {
      if (!(ended instanceof Prediction || ended instanceof ProtocolError) && inTime.has(ended)) {
        expect(ended).toHaveProperty("attempts", RETRIES.attemptsMax);
      }
    }
    expect(answered.length).toBeGreaterThan(count / 2);
    expect(Math.max(...faulty.acted.values())).toBeGreaterThan(1);
  }, 900_000);
});

/** What a call ends with when its request always meets this. */
async function ending(fault: Fault, options: ClientOptions = {}): Promise<unknown> {
  faulty.always = fault;
  const client = new Client(url, { retries: { attemptsMax: 2, backoffMs: 1 }, ...options });
  return client.predict("m", { id: fault }).catch((error: unknown) => error);
}

describe("one call that meets", () => {
  test.each<[Fault, new (...words: never[]) => PenstockError, number, boolean]>([
    ["refuse 503", QueueFullError, 2, false],
    ["worker died", WorkerDiedError, 1, true],
    ["fail", ModelError, 1, true],
    ["close at once", ConnectionLostError, 1, true],
    ["reset at once", ConnectionLostError, 1, true],
    ["act and close", ConnectionLostError, 1, true],
    ["act and cut the head", ConnectionLostError, 1, true],
    ["act and cut the body", ConnectionLostError, 1, true],
    ["act and babble", ProtocolError, 1, true],
    ["502", RefusedError, 1, true],
  ])("%s", async (fault, Kind, attempts, mayHaveRun) => {
    const error = await ending(fault);
    expect(error).toBeInstanceOf(Kind);
    expect(error).toMatchObject({ attempts, mayHaveRun });
    expect((error as PenstockError).requestId).not.toBe("");
  });

  test("silence ends when its time is over", async () => {
    const error = await ending("act and say nothing", { timeoutMs: 50 });
    expect(error).toBeInstanceOf(TimedOutError);
    expect(error).toMatchObject({ attempts: 1, mayHaveRun: true });
    const text = "no answer within 50 ms (it may have run, request";
    expect((error as TimedOutError).message).toContain(text);
  });

  test("nobody there is tried again, and was not run", async () => {
    const gone = new FaultyServer(1);
    const { port } = new URL(await gone.start());
    await gone.stop();
    // fetch itself refuses some ports, of which 1 is one.
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`, "nobody.invalid", "127.0.0.1:1"]) {
      const nobody = `http://${host}`;
      const client = new Client(nobody, { retries: { attemptsMax: 2, backoffMs: 1 } });
      const error: unknown = await client.predict("m", [1]).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ConnectError);
      expect(error).toMatchObject({ attempts: 2, mayHaveRun: false });
    }
  });

  test("a call that waits for its place is told so when its time is over", async () => {
    faulty.always = "act and say nothing";
    const client = new Client(url, { timeoutMs: 300, requestsMax: 1 });
    const first = client.predict("m", { id: "holds" }).catch((error: unknown) => error);
    const second = client.predict("m", { id: "waits" }, { timeoutMs: 50 }).catch((error: unknown) => error);
    expect(await second).toMatchObject({ name: "TimedOutError", attempts: 0, mayHaveRun: false });
    expect(await first).toMatchObject({ name: "TimedOutError", attempts: 1, mayHaveRun: true });
    expect(faulty.acted.has("waits")).toBe(false);
    faulty.always = "answer";
    expect((await client.predict("m", { id: "later" }, { timeoutMs: 60_000 })).outputs).toEqual({ id: "later" });
  });
});
