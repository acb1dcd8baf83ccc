/** The packed tarball, as a new user has it: in an empty folder, from JavaScript and from TypeScript. */

import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { VERSION } from "../src/index.js";
import { ROOT } from "./serving.js";

const run = promisify(execFile);
const SDK = fileURLToPath(new URL("..", import.meta.url));
const TSC = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const USES = `
import { Client, PenstockError, type Prediction, RefusedError, Tensor } from "penstock-client";
import { modelFiles } from "penstock-client/node";
import type { components } from "penstock-client/openapi";
import { OpenTelemetryHook } from "penstock-client/opentelemetry";
import { InvalidInputError } from "penstock-client/problems";

// There are no types but the package's own and those of a page.
declare const process: { argv: string[] };

const client = new Client(process.argv[2]);
const answer: Prediction<{ y: number[] }> = await client.predict<{ y: number[] }>("affine", [1, 2, 3, 4]);
const { y } = (await client.predict("affine", new Float32Array([1, 2, 3, 4]))).outputs;
const tensor: Tensor | undefined = y;
const kind: components["schemas"]["Key"]["role"] = "predict";
let code = "";
try {
  await client.predict("affine", [1]);
} catch (error) {
  if (error instanceof InvalidInputError && error instanceof RefusedError && error instanceof PenstockError) {
    code = error.code;
  }
}
console.log(JSON.stringify([answer.outputs.y, tensor, kind, code, typeof modelFiles, typeof OpenTelemetryHook]));
`;

let folder: string;
let packed: { files: { path: string }[]; filename: string };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "packed-"));
  const { stdout } = await run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", folder], {
    cwd: SDK,
  });
  [packed] = JSON.parse(stdout);
  await writeFile(join(folder, "package.json"), '{"name": "user", "private": true, "type": "module"}');
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", `./${packed.filename}`], { cwd: folder });
});
afterAll(() => rm(folder, { recursive: true }));

test("holds what was built, what it is and its licence, and nothing else", async () => {
  const paths = packed.files.map((file) => file.path);
  const others = paths.filter((path) => !/^dist\/[\w-]+(\.d\.ts|\.js)$/.test(path));
  expect(others.sort()).toEqual(["LICENSE", "README.md", "package.json"]);
  expect(paths).toContain("dist/index.js");
  expect(paths).not.toContain("dist/openapi.js");
  expect(await readFile(join(SDK, "LICENSE"), "utf8")).toBe(await readFile(join(ROOT, "LICENSE"), "utf8"));
  const document = JSON.parse(await readFile(join(folder, "node_modules/penstock-client/package.json"), "utf8"));
  expect(document.version).toBe(VERSION);
  expect(document.dependencies).toBeUndefined();
});

test.each([
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
])("is used from TypeScript, module %s, resolution %s", async (module, resolution) => {
  const name = `use-${resolution}`;
  await writeFile(join(folder, `${name}.ts`), USES);
  const words = ["--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--lib", "es2022,dom"];
  const resolved = ["--module", module, "--moduleResolution", resolution];
  // The package's declarations are looked at, too: only those of TypeScript itself are not.
  const compiled = run(process.execPath, [TSC, ...words, ...resolved, "--skipDefaultLibCheck", `${name}.ts`], {
    cwd: folder,
  });
  await compiled.catch(({ stdout }) => expect(stdout).toBe(""));
  const { stdout } = await run(process.execPath, [`${name}.js`, inject("url")], { cwd: folder });
  const seen = [[3, 5, 7, 9], [3, 5, 7, 9], "predict", "invalid_input", "function", "function"];
  expect(JSON.parse(stdout)).toEqual(seen);
});

test("is used from JavaScript", async () => {
  const source =
    'import { Client } from "penstock-client";\nconsole.log((await new Client(process.argv[2]).predict("affine", [1, 2, 3, 4])).output);\n';
  await writeFile(join(folder, "use.mjs"), source);
  const { stdout } = await run(process.execPath, ["use.mjs", inject("url")], { cwd: folder });
  expect(stdout).toBe("[ 3, 5, 7, 9 ]\n");
});
