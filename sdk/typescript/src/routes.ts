/** Routes that answer with JSON. */

import { checked } from "./binary.js";
import type { Call, CallOptions, Core, Outgoing } from "./core.js";
import { RefusedError, TimedOutError, TransportError } from "./errors.js";
import { toJson } from "./json.js";
import type { components } from "./openapi.js";
import { quoted, readAs } from "./predicting.js";
import { Retries } from "./retrying.js";
import { textOf } from "./transport.js";
import { now, sleep } from "./waiting.js";

/** The server's name, version and extensions. */
export type Server = components["schemas"]["OipServer"];

const LOOK_MS = 50;
// What is asked now is how it is now.
const LOOK_TIMEOUT_MS = 5000;
const LOOK: Call = { retries: new Retries({ attemptsMax: 1 }) };

/** Asks them. */
export class Routes {
  constructor(readonly core: Core) {}

  /** Send a document, or none, and read the one that answers. */
  async ask<T>(method: Outgoing["method"], target: string, document: unknown, call: Call): Promise<T> {
    const body = document === undefined ? {} : { body: toJson(document), contentType: "application/json" };
    return this.read(await this.core.send({ method, target, ...body }, call));
  }

  /** GET a route that answers with plain text. */
  async text(path: string, call: Call): Promise<string> {
    const reply = await this.core.send({ method: "GET", target: path, accept: "text/plain" }, call);
    return readAs(reply, () => textOf(reply));
  }

  /** Read the document of a reply. The server is tested against the description that the types are made from. */
  read<T>(reply: Awaited<ReturnType<Core["send"]>>): T {
    return readAs(reply, () => JSON.parse(textOf(reply)) as T);
  }

  /** GET a route of health; false for a server that is not there, or says no. */
  async healthy(path: string, call: CallOptions): Promise<boolean> {
    try {
      await this.core.send(
        { method: "GET", target: path },
        { ...LOOK, ...call, timeoutMs: call.timeoutMs ?? LOOK_TIMEOUT_MS },
      );
      return true;
    } catch (error) {
      if (error instanceof RefusedError || error instanceof TransportError) {
        return false;
      }
      throw error;
    }
  }

  /** Wait until the server is ready; TimedOutError when it is not by then. */
  async untilReady({ timeoutMs = 60_000, signal }: CallOptions): Promise<void> {
    const deadline = now() + timeoutMs;
    // A look may not take longer than what is left.
    const look = (): CallOptions => ({
      signal,
      timeoutMs: Math.min(Math.max(deadline - now(), LOOK_MS), LOOK_TIMEOUT_MS),
    });
    while (!(await this.healthy("/health/ready", look()))) {
      if (now() >= deadline) {
        throw new TimedOutError(`${this.core.settings.address.url} was not ready within ${timeoutMs} ms`);
      }
      await sleep(LOOK_MS, signal);
    }
  }
}

/** A path of names with its query; what of that is undefined or empty is left out. */
export function target(root: string, parts: readonly string[], query: Record<string, unknown> = {}): string {
  const path = [root, ...parts.map(quoted)].join("/");
  const asked = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = asked.map(([name, value]) => `${name}=${encodeURIComponent(checked(String(value)))}`).join("&");
  return text ? `${path}?${text}` : path;
}
