/** The real `penstock serve` as a child process: started on port 0, ready when it says so, stopped by SIGTERM. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
/** The models of tests/models. */
export const MODELS = ["--config", fileURLToPath(new URL("models/penstock.toml", import.meta.url))];
const READY_MS = 300_000;
const STOP_MS = 120_000;

/** The Python that has penstock: SERVER_PYTHON, or the repository's own. */
export function python(): string {
  const found = process.env["SERVER_PYTHON"] ?? join(ROOT, ".venv/bin/python");
  if (!existsSync(found)) {
    throw new Error(`there is no ${found}: run \`make setup\`, or name a Python that has penstock in SERVER_PYTHON`);
  }
  return found;
}

/** A running server. */
export class Server {
  private constructor(
    readonly url: string,
    readonly process: ChildProcess,
    readonly folder: string,
  ) {}

  /** Start `penstock serve WORDS --port 0`; rejects with its log if it is not ready in time. */
  static async start(words: string[], settings: Record<string, string> = {}, cwd = ROOT): Promise<Server> {
    const folder = await mkdtemp(join(tmpdir(), "penstock-"));
    const log = await open(join(folder, "server.log"), "a");
    const around = { PENSTOCK_DATA_DIR: join(folder, "data"), XDG_DATA_HOME: folder, PENSTOCK_READY_FD: "3" };
    const child = spawn(python(), ["-m", "penstock", "serve", ...words, "--port", "0"], {
      stdio: ["ignore", log.fd, log.fd, "pipe"],
      env: { ...process.env, ...settings, ...around },
      cwd,
    });
    await log.close();
    const timer = setTimeout(() => child.kill("SIGKILL"), READY_MS);
    let ready: { event?: string; address?: string; port?: number } = {};
    for await (const line of createInterface(child.stdio[3] as Readable)) {
      ready = JSON.parse(line);
      break;
    }
    clearTimeout(timer);
    if (ready.event !== "ready") {
      child.kill("SIGKILL");
      throw new Error(`the server was not ready:\n${await readFile(join(folder, "server.log"), "utf8")}`);
    }
    return new Server(`http://${ready.address}:${ready.port}`, child, folder);
  }

  /** SIGTERM; rejects unless it exits with 0. */
  async stop(): Promise<void> {
    if (this.process.exitCode === null) {
      const ended = once(this.process, "exit");
      this.process.kill("SIGTERM");
      const timer = setTimeout(() => this.process.kill("SIGKILL"), STOP_MS);
      await ended;
      clearTimeout(timer);
    }
    if (this.process.exitCode !== 0) {
      throw new Error(`the server ended with ${this.process.exitCode}:\n${await this.log()}`);
    }
    await rm(this.folder, { recursive: true });
  }

  /** What it has written. */
  log(): Promise<string> {
    return readFile(join(this.folder, "server.log"), "utf8");
  }
}
