/** A server that fails in every way there is, over real sockets, and knows which requests it has acted on. */

import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

/** What becomes of a request, and how often. Those in the first group are answered or refused as Penstock does it. */
export const FAULTS = {
  answer: 40,
  "answer and close": 10,
  "answer and say close": 10,
  "answer in pieces": 10,
  "refuse 503": 10,
  "refuse 429": 10,
  "refuse and close": 10,
  "worker died": 10,
  fail: 10,
  // before anybody has acted
  "close at once": 10,
  "reset at once": 10,
  "reset within the head": 10,
  "reset within the body": 10,
  // after it was acted on
  "act and close": 10,
  "act and reset": 10,
  "act and cut the head": 10,
  "act and cut the body": 10,
  "act and babble": 10,
  // A silent fault costs the client a whole time-out.
  "act and say nothing": 1,
  // a proxy's words, from which nobody can tell
  "act and 502": 10,
  "502": 10,
};

export type Fault = keyof typeof FAULTS;

const CLOSES = [
  "answer and close",
  "refuse and close",
  "act and cut the head",
  "act and cut the body",
  "act and babble",
];

/** Numbers between 0 and 1 that are the same each time (mulberry32). */
export function randomly(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Listens on 127.0.0.1; `acted` counts for each id how often its request was acted on. */
export class FaultyServer {
  readonly acted = new Map<string, number>();
  readonly faults = new Map<Fault, number>();
  readonly #random: () => number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** What to do with every request, in place of chance. */
  always: Fault | undefined;

  constructor(seed: number) {
    this.#random = randomly(seed);
    this.#server = createServer((socket) => this.#serve(socket));
  }

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1", 512);
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) {
      socket.destroy();
    }
    this.#server.close();
    await once(this.#server, "close");
  }

  #serve(socket: Socket): void {
    let read = Buffer.alloc(0);
    let fault: Fault | undefined;
    this.#sockets.add(socket);
    // A connection that its client has reset is at its end, too.
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("data", (piece) => {
      read = Buffer.concat([read, piece]);
      fault ??= this.#chosen();
      const used = this.#one(fault, read, socket);
      if (used > 0) {
        read = read.subarray(used);
        fault = undefined;
      }
    });
  }

  #chosen(): Fault {
    const sum = Object.values(FAULTS).reduce((one, other) => one + other);
    let place = this.#random() * sum;
    for (const [fault, weight] of Object.entries(FAULTS) as [Fault, number][]) {
      place -= weight;
      if (place < 0) {
        return this.always ?? fault;
      }
    }
    return "answer";
  }

  /** Treat a request, if it is there as far as the fault needs it; how many bytes are done with. */
  #one(fault: Fault, read: Buffer, socket: Socket): number {
    if (fault === "reset within the head") {
      return this.#end(fault, socket);
    }
    const head = read.indexOf("\r\n\r\n");
    if (head < 0) {
      return 0;
    }
    if (fault === "close at once" || fault === "reset at once") {
      return this.#end(fault, socket);
    }
    const length = Number(/content-length: (\d+)/i.exec(read.toString("latin1", 0, head))?.[1] ?? 0);
    if (fault === "reset within the body") {
      return read.length >= head + 4 + length / 2 ? this.#end(fault, socket) : 0;
    }
    if (read.length < head + 4 + length) {
      return 0;
    }
    this.#count(fault);
    this.#reply(fault, JSON.parse(read.toString("utf8", head + 4, head + 4 + length)).inputs.id, socket);
    return head + 4 + length;
  }

  #reply(fault: Fault, name: string, socket: Socket): void {
    if (/^(answer|act)/.test(fault) || fault === "worker died" || fault === "fail") {
      this.acted.set(name, (this.acted.get(name) ?? 0) + 1);
    }
    const whole = reply(200, { model: "m", version: "1", outputs: { id: name } });
    const later = { "Retry-After": "0" };
    const replies: Partial<Record<Fault, string>> = {
      answer: whole,
      "answer and close": whole,
      "answer and say close": whole.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"),
      "refuse 503": problem(503, "queue_full", later),
      "refuse 429": problem(429, "too_many_requests", later),
      "refuse and close": problem(503, "draining", { ...later, Connection: "close" }),
      "worker died": problem(503, "worker_died", later),
      fail: problem(500, "model_error", {}),
      "act and cut the head": whole.slice(0, 20),
      "act and cut the body": whole.slice(0, -4),
      "act and babble": "!".repeat(50),
      "act and 502": PROXY,
      "502": PROXY,
    };
    const text = replies[fault];
    if (text !== undefined) {
      socket.write(text, () => {
        if (CLOSES.includes(fault) || fault === "answer and say close") {
          socket.end();
        }
      });
    } else if (fault === "answer in pieces") {
      this.#inPieces(whole, socket);
    } else if (fault === "act and reset") {
      socket.resetAndDestroy();
    } else if (fault === "act and close") {
      socket.end();
    }
  }

  #inPieces(text: string, socket: Socket): void {
    socket.write(text.slice(0, 40));
    if (text.length > 40) {
      setImmediate(() => this.#inPieces(text.slice(40), socket));
    }
  }

  #end(fault: Fault, socket: Socket): number {
    this.#count(fault);
    if (fault.startsWith("reset")) {
      socket.resetAndDestroy();
    } else {
      socket.end();
    }
    return 0;
  }

  #count(fault: Fault): void {
    this.faults.set(fault, (this.faults.get(fault) ?? 0) + 1);
  }
}

function reply(
  status: number,
  document: object,
  fields: Record<string, string> = {},
  kind = "application/json",
): string {
  const body = JSON.stringify(document);
  const all = { "Content-Type": kind, ...fields, "Content-Length": String(body.length) };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} X\r\n${lines.join("")}\r\n${body}`;
}

function problem(status: number, code: string, fields: Record<string, string>): string {
  return reply(status, { code, detail: code, status }, fields, "application/problem+json");
}

const PROXY = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
