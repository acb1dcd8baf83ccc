/** Chromium, and a server of pages that may import what was built. */

import { accessSync, constants } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Browser, chromium } from "playwright-core";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const PAGE = `<!doctype html><script type="importmap">{"imports": {"penstock-client": "/index.js"}}</script>
<script type="module">
  import * as sdk from "penstock-client";
  globalThis.sdk = sdk;
</script>`;
const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** Where a Chromium is: CHROMIUM, or the first on PATH; undefined where there is none. */
export function browserPath(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const paths = [
    process.env["CHROMIUM"] ?? "",
    ...NAMES.flatMap((name) => folders.map((folder) => join(folder, name))),
  ];
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return path !== "";
    } catch {
      return false;
    }
  });
}

/** Start it, without a window. */
export function launched(...words: string[]): Promise<Browser> {
  const executablePath = browserPath();
  if (executablePath === undefined) {
    throw new Error("no chromium");
  }
  return chromium.launch({ executablePath, args: ["--disable-gpu", ...words] });
}

/** Serves a page that has imported the SDK, and dist/ below it. */
export class Pages {
  readonly #server: HttpServer;

  constructor() {
    this.#server = createServer(async (request, response) => {
      const path = new URL(request.url ?? "/", "http://h").pathname;
      const text = path === "/" ? PAGE : await readFile(join(DIST, path)).catch(() => "");
      const kind = path === "/" ? "text/html" : "text/javascript";
      response.writeHead(text ? 200 : 404, { "Content-Type": kind }).end(text);
    });
  }

  /** Its port, on 127.0.0.1 and localhost, which are two origins. */
  async start(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
