/** One server of the small models for every test file, in development mode and open to every page. */

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { TestProject } from "vitest/node";
import { browserPath } from "./pages.js";
import { MODELS, Server } from "./serving.js";

declare module "vitest" {
  interface ProvidedContext {
    url: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (browserPath() === undefined) {
    console.warn(
      "tests in a page are left out: no chromium on PATH (apt-get install chromium, or name one in CHROMIUM)",
    );
  }
  // Pages and the packed tarball have what is built.
  execFileSync(process.execPath, [fileURLToPath(new URL("../scripts/build.mjs", import.meta.url))], {
    stdio: "inherit",
  });
  const server = await Server.start([...MODELS, "--development"], { PENSTOCK_CORS_ORIGINS: "*" });
  project.provide("url", server.url);
  return () => server.stop();
}
