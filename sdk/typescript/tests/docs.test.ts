/** docs/sdk-typescript.md does what it shows: its examples are one program, and what they print stands beside them. */

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { browserPath, launched, Pages } from "./pages.js";
import { ROOT, Server } from "./serving.js";

const run = promisify(execFile);
const SDK = fileURLToPath(new URL("..", import.meta.url));
const TSC = createRequire(import.meta.url).resolve("typescript/bin/tsc");

interface Block {
  language: string;
  argument: string;
  text: string;
  line: number;
}

let blocks: Block[];
let folder: string;
let server: Server;
let pages: Pages;
let origin: string;

async function blocksOf(path: string): Promise<Block[]> {
  const text = await readFile(path, "utf8");
  return [...text.matchAll(/^```(\w+)(?: +(\S+))?\n(.*?)^```/gms)].map((found) => ({
    language: found[1] as string,
    argument: found[2] ?? "",
    text: found[3] as string,
    line: text.slice(0, found.index).split("\n").length,
  }));
}

/** What a program is to print: the comment behind a console.log, or behind what closes its block. */
function shown(source: string): string[] {
  const found = source.matchAll(/console\.log\(.*\)[;,] \/\/ (.*)$|^\} \/\/ (.*)$/gm);
  return [...found].map((one) => (one[1] ?? one[2]) as string);
}

function program(argument: string): string {
  const parts = blocks.filter((block) => block.language === "ts" && block.argument === argument);
  return parts
    .map((block) => block.text)
    .join("\n")
    .replaceAll("http://127.0.0.1:8000", server.url)
    .replaceAll("timeoutMs: 2000", "timeoutMs: 120_000"); // which a busy machine may miss
}

/** Compile a program with all that strict checks; what is wrong with it stops the test. */
async function compiled(name: string, source: string): Promise<void> {
  await writeFile(join(folder, `${name}.ts`), source);
  const words = ["--strict", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--skipLibCheck"];
  await run(process.execPath, [TSC, ...words, "--module", "esnext", "--moduleResolution", "bundler", `${name}.ts`], {
    cwd: folder,
  }).catch(({ stdout }) => expect(stdout).toBe(""));
}

beforeAll(async () => {
  blocks = await blocksOf(join(ROOT, "docs/sdk-typescript.md"));
  folder = await mkdtemp(join(tmpdir(), "docs-"));
  await mkdir(join(folder, "node_modules"));
  await symlink(SDK, join(folder, "node_modules/penstock-client"));
  await writeFile(join(folder, "package.json"), '{"type": "module"}');
  for (const { argument, language, text } of blocks) {
    if (argument && language !== "ts") {
      await writeFile(join(folder, argument), text);
    }
  }
  pages = new Pages();
  origin = `http://localhost:${await pages.start()}`;
  const command = blocks
    .find((block) => block.text.startsWith("penstock serve "))
    ?.text.trim()
    .split(" ")
    .slice(2);
  server = await Server.start(command as string[], { PENSTOCK_CORS_ORIGINS: origin }, folder);
});
afterAll(async () => {
  await server?.stop();
  await pages.stop();
  await rm(folder, { recursive: true });
});

describe("the document's examples", () => {
  test("print what they show", async () => {
    const source = program("");
    await compiled("program", source);
    const { stdout } = await run(process.execPath, ["program.js"], { cwd: folder });
    expect(stdout.trimEnd().split("\n")).toEqual(shown(source));
  });

  test.skipIf(browserPath() === undefined)("print it in a page", async () => {
    const source = program("page.ts");
    await compiled("page", source);
    const browser = await launched();
    const page = await browser.newPage();
    page.setDefaultTimeout(300_000);
    const printed: string[] = [];
    // A page's console has more than what programs write, such as icons that are not there.
    page.on("console", (message) => message.type() === "log" && printed.push(message.text()));
    await page.goto(origin);
    const content = await readFile(join(folder, "page.js"), "utf8");
    await page.addScriptTag({ type: "module", content: `${content};\nglobalThis.done = true;` });
    await page.waitForFunction(() => "done" in globalThis);
    await browser.close();
    expect(printed).toEqual(shown(source));
  });

  test("show every call of a client, and the size that there is", async () => {
    const text = await readFile(join(ROOT, "docs/sdk-typescript.md"), "utf8");
    for (const name of [
      "predict",
      "predictBatch",
      "iterBatch",
      "predictStream",
      "schema",
      "live",
      "ready",
      "waitReady",
    ]) {
      expect(text).toContain(name);
    }
    const { stdout } = await run(process.execPath, ["scripts/size.mjs"], { cwd: SDK });
    const size = Number(/(\d+) with gzip/.exec(stdout)?.[1]);
    const said = 1000 * Number(/with gzip it is (\d+) kB \(`npm run size`/.exec(text)?.[1]);
    expect(Math.abs(size - said)).toBeLessThan(1000);
  });
});
