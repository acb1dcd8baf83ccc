/** Event streams: the rules of the HTML standard one by one, however the bytes are cut, and what a stream's answers need. */

import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import {
  Client,
  ConnectionLostError,
  ProtocolError,
  type RowAnswer,
  type ServerSentEvent,
  serverSentEvents,
} from "../src/index.js";
import { NotAcceptableError } from "../src/problems.js";

type Given = string | Uint8Array<ArrayBuffer>;

function streamOf(pieces: Iterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = pieces[Symbol.iterator]();
  return new ReadableStream({
    pull: (to) => {
      const { done, value } = iterator.next();
      if (done) {
        to.close();
      } else {
        to.enqueue(value);
      }
    },
  });
}

async function read(pieces: Iterable<Uint8Array>): Promise<ServerSentEvent[]> {
  const events: ServerSentEvent[] = [];
  for await (const event of serverSentEvents(streamOf(pieces))) {
    events.push(event);
  }
  return events;
}

const encoder = new TextEncoder();
const message = (data: string, more: Partial<ServerSentEvent> = {}): ServerSentEvent => ({
  event: "message",
  data,
  id: "",
  retry: undefined,
  ...more,
});

const RULES: [rule: string, given: Given, events: ServerSentEvent[]][] = [
  ["an empty line ends an event", "data: a\n\ndata: b\n\n", [message("a"), message("b")]],
  ["an event that is not ended is none", "data: a\n\ndata: b\n", [message("a")]],
  ["nor is one whose empty line is still to come", "data: a", []],
  ["nothing holds nothing", "", []],
  ["empty lines hold nothing", "\n\n\n", []],
  // line ends
  ["CR ends a line", "data: a\rdata: b\r\r", [message("a\nb")]],
  ["CRLF ends one line, not two", "data: a\r\ndata: b\r\n\r\n", [message("a\nb")]],
  ["line ends may be mixed", "data: a\ndata: b\r\ndata: c\rdata: d\n\r", [message("a\nb\nc\nd")]],
  ["LF and CR are two line ends", "data: a\n\rdata: b\n\n", [message("a"), message("b")]],
  ["CR, CR and LF are two line ends", "data: a\r\r\ndata: b\n\n", [message("a"), message("b")]],
  [
    "other line breaks of Unicode are none",
    "data: a\u2028b\u2029c\u0085d\v\f\n\n",
    [message("a\u2028b\u2029c\u0085d\v\f")],
  ],
  // the mark of byte order
  ["one mark of byte order is left out", "\ufeffdata: a\n\n", [message("a")]],
  ["a second one is part of a name", "\ufeff\ufeffdata: a\n\n", []],
  [
    "a later one is part of the text",
    "data: a\n\n\ufeffdata: b\n\ndata: \ufeffc\n\n",
    [message("a"), message("\ufeffc")],
  ],
  // comments
  ["a line that begins with a colon is a comment", ": a\ndata: b\n:data: c\n:\n\n", [message("b")]],
  ["a comment is no event", ":\n\n: keep alive\n\n", []],
  // data
  ["lines of data are joined", "data: a\ndata: b\ndata: c\n\n", [message("a\nb\nc")]],
  ["one space behind the colon is left out", "data:a\ndata: b\ndata:  c\n\n", [message("a\nb\n c")]],
  ["a tab is no space", "data:\ta\n\n", [message("\ta")]],
  ["further colons are part of the value", "data: a: b:c\n\n", [message("a: b:c")]],
  ["a space before the colon is part of the name", "data : a\n\n", []],
  ["a name alone has an empty value", "data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]],
  ["empty data are data", "data:\n\ndata: \n\n", [message(""), message("")]],
  ["an event without data is none", "event: a\nid: 1\n\ndata: b\n\n", [message("b", { id: "1" })]],
  ["names are of one case", "DATA: a\nData: b\n\n", []],
  ["unknown fields say nothing", "what: a\ndata: b\nwhat\n\n", [message("b")]],
  // types
  ["an event has a type", "event: add\ndata: a\n\n", [message("a", { event: "add" })]],
  ["the last type counts", "event: a\nevent: b\ndata: c\n\n", [message("c", { event: "b" })]],
  ["an empty type is that of a message", "event: a\nevent:\ndata: b\n\n", [message("b")]],
  ["a type is for one event", "event: a\ndata: b\n\ndata: c\n\n", [message("b", { event: "a" }), message("c")]],
  ["also where that was none", "event: a\n\ndata: b\n\n", [message("b")]],
  // ids
  ["an id stays", "id: 1\ndata: a\n\ndata: b\n\n", [message("a", { id: "1" }), message("b", { id: "1" })]],
  [
    "until there is another",
    "id: 1\ndata: a\n\nid: 2\ndata: b\n\n",
    [message("a", { id: "1" }), message("b", { id: "2" })],
  ],
  ["an empty id takes it back", "id: 1\ndata: a\n\nid\ndata: b\n\n", [message("a", { id: "1" }), message("b")]],
  ["an id with NUL is none", "id: 1\nid: 2\0\ndata: a\n\n", [message("a", { id: "1" })]],
  ["other NULs are text", "data: \0\n\n", [message("\0")]],
  // retry
  ["retry is a number of milliseconds", "retry: 1500\ndata: a\n\n", [message("a", { retry: 1500 })]],
  ["and stays", "retry: 010\n\ndata: a\n\n", [message("a", { retry: 10 })]],
  [
    "of ASCII digits alone",
    "retry: 7\nretry: 1.5\nretry: -1\nretry: 2s\nretry: ١\nretry\ndata: a\n\n",
    [message("a", { retry: 7 })],
  ],
  // UTF-8
  ["characters of any length", "data: é€😀\nevent: ä\n\n", [message("é€😀", { event: "ä" })]],
  [
    "what is no UTF-8 is replaced",
    Uint8Array.from([...encoder.encode("data: "), 0xff, 0xe2, 0x82, 0x0a, 0x0a]),
    [message("\ufffd\ufffd")],
  ],
  ["the standard's first example", "data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]],
  [
    "its second example",
    ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
    [message("first event", { id: "1" }), message("second event"), message(" third event")],
  ],
];

describe("of an event stream", () => {
  test.each(RULES)("%s", async (_, given, events) => {
    const bytes = typeof given === "string" ? encoder.encode(given) : given;
    expect(await read([bytes])).toEqual(events);
    expect(await read(Array.from(bytes, (byte) => Uint8Array.of(byte)))).toEqual(events);
    for (let place = 0; place <= bytes.length; place += 1) {
      const pieces = [bytes.subarray(0, place), new Uint8Array(), bytes.subarray(place)];
      expect(await read(pieces), `cut at ${place}`).toEqual(events);
    }
  });

  test("an event is there before the stream goes on, also behind a CR", async () => {
    for (const text of ["data: a\n\n", "data: a\r\r", "data: a\r\n\r"]) {
      const silent = new ReadableStream<Uint8Array>({ start: (to) => to.enqueue(encoder.encode(text)) });
      const events = serverSentEvents(silent);
      expect((await events.next()).value).toEqual(message("a"));
      await events.return();
    }
  });

  test("whoever stops early cancels it, and may read on where it was not the last", async () => {
    let cancelled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (to) => to.enqueue(encoder.encode("data: a\n\n")),
      cancel: () => {
        cancelled += 1;
      },
    });
    for await (const event of serverSentEvents(endless)) {
      expect(event.data).toBe("a");
      break;
    }
    expect([cancelled, endless.locked]).toEqual([1, false]);
  });

  test("what reading throws is thrown", async () => {
    const reason = new Error("cut");
    const failing = new ReadableStream<Uint8Array>({ pull: (to) => to.error(reason) });
    await expect(serverSentEvents(failing).next()).rejects.toBe(reason);
    expect(failing.locked).toBe(false);
  });

  // Work that grows with the square of this is not done in the time that a test has.
  test("tiny pieces and long lines cost what they are long", async () => {
    const long = encoder.encode(`data: ${"x".repeat(1 << 18)}\n\n`);
    function* tiny(): Generator<Uint8Array> {
      for (let place = 0; place < long.length; place += 4) {
        yield long.subarray(place, place + 4);
      }
    }
    expect((await read(tiny()))[0]?.data.length).toBe(1 << 18);
    const many = encoder.encode("data: a\n".repeat(1 << 18));
    expect((await read([many, encoder.encode("\n")]))[0]?.data.length).toBe((1 << 19) - 1);
    expect(await read([encoder.encode("data: a\n\n".repeat(1 << 17))])).toHaveLength(1 << 17);
  });
});

describe("answers as events", () => {
  const row = [1, 2, 3, 4];
  const kind = { "Content-Type": "text/event-stream" };
  let server: Server;
  let client: Client;
  let answer: { head: Record<string, string>; body: Given; cut?: boolean };

  beforeAll(async () => {
    server = createServer((request, response) => {
      request.resume().on("end", () => {
        response.writeHead(200, answer.head);
        response.write(answer.body, () => (answer.cut ? response.destroy() : response.end()));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    client = new Client(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  });
  afterAll(() => server.close());

  async function ending(): Promise<{ answers: RowAnswer[]; error: unknown }> {
    const answers: RowAnswer[] = [];
    try {
      for await (const one of client.predictStream("m", [row, row], { as: "events" })) {
        answers.push(one);
      }
      return { answers, error: undefined };
    } catch (error) {
      return { answers, error };
    }
  }

  const two = 'data: {"outputs":{"y":1}}\n\ndata: {"error":{"row":1,"code":"model_error","status":500}}\n\n';
  const end = 'event: end\ndata: {"rows":2}\n\n';

  test("are whole with their last event, whatever else a stream has", async () => {
    for (const body of [two + end, `: hello\n\nevent: hint\ndata: x\n\n${two}:\n\n${end}`, `\ufeff${two}${end}`]) {
      answer = { head: { "Content-Type": "Text/Event-Stream; charset=utf-8" }, body };
      const { answers, error } = await ending();
      expect(error).toBeUndefined();
      expect(answers.map((one) => one.outputs ?? one.error?.name)).toEqual([{ y: 1 }, "ModelError"]);
    }
  });

  test("are whole where the connection is lost behind them", async () => {
    answer = { head: kind, body: two + end, cut: true };
    const { answers, error } = await ending();
    expect(error).toBeUndefined();
    expect(answers).toHaveLength(2);
  });

  test.each<[string, Given, Record<string, string>, new (...words: never[]) => Error, number, string]>([
    ["is not there", two, kind, ConnectionLostError, 2, "after 2 rows, without the event that ends it"],
    ["is cut", two + end.slice(0, -1), kind, ConnectionLostError, 2, "after 2 rows"],
    [
      "stands behind a character that is cut",
      encoder.encode(`${two}data: €`).slice(0, -1),
      kind,
      ConnectionLostError,
      2,
      "2",
    ],
    ["is all that is missing of nothing", "", kind, ConnectionLostError, 0, "after 0 rows"],
    ["says another number", two + end.replace("2", "3"), kind, ProtocolError, 2, "2 rows came"],
    ["says none", two + end.replace('"rows"', '"lines"'), kind, ProtocolError, 2, "2 rows came"],
    ["is true, and rows were lost before", end.replace("2", "0"), kind, ProtocolError, 0, "0 answers to 2 rows"],
    ["follows what is no row", `data: 7\n\n${end}`, kind, ProtocolError, 0, "row 0 cannot be read"],
    ["follows what is no UTF-8", Uint8Array.of(0xff), kind, ProtocolError, 0, "no UTF-8"],
    [
      "is asked for, and lines come",
      '{"outputs":{}}\n',
      { "Content-Type": "application/x-ndjson" },
      ProtocolError,
      0,
      "x-ndjson",
    ],
    ["is asked for, and nobody says what comes", two + end, {}, ProtocolError, 0, "nothing is answered"],
  ])("fail when the last one %s", async (_, body, head, Kind, count, text) => {
    answer = { head, body };
    const { answers, error } = await ending();
    expect(error).toBeInstanceOf(Kind);
    expect(error).toMatchObject({ attempts: 1, mayHaveRun: true });
    expect(String(error)).toContain(text);
    expect(answers).toHaveLength(count);
  });

  test("fail with their connection", async () => {
    answer = { head: kind, body: two, cut: true };
    const { answers, error } = await ending();
    expect(error).toBeInstanceOf(ConnectionLostError);
    expect(error).toMatchObject({ mayHaveRun: true });
    expect(answers.length).toBeLessThanOrEqual(2);
  });

  test("are those of the real server, which gives them also to who reads events alone", async () => {
    const body = "[1,2,3,4]\n[1]\n";
    const ask = (accept: string): Promise<Response> =>
      fetch(`${inject("url")}/predict/batch?model=affine`, {
        method: "POST",
        body,
        headers: { "Content-Type": "application/x-ndjson", Accept: accept },
      });
    const lines = (await (await ask("application/x-ndjson")).text()).trimEnd().split("\n");
    const response = await ask("text/event-stream");
    expect(response.headers.get("cache-control")).toBe("no-store");
    const events: ServerSentEvent[] = [];
    for await (const event of serverSentEvents(response.body as ReadableStream<Uint8Array>)) {
      events.push(event);
    }
    expect(events).toEqual([...lines.map((line) => message(line)), message('{"rows":2}', { event: "end" })]);
    expect((await ask("image/png")).status).toBe(NotAcceptableError.problem.status);
  });
});
