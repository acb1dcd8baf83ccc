/** Administration against a real server with a registry. */

import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import { ArgumentError, Client } from "../src/index.js";
import { modelFiles } from "../src/node.js";
import {
  ConflictError,
  ForbiddenError,
  ModelNotFoundError,
  UnauthorizedError,
  VersionNotFoundError,
} from "../src/problems.js";
import { Server } from "./serving.js";

const AFFINE = fileURLToPath(new URL("models/affine.py", import.meta.url));
const SOURCE = new URL("models/affine.py", import.meta.url);

let server: Server;
let client: Client;
let folder: string;

beforeAll(async () => {
  server = await Server.start([`affine=${AFFINE}`, "--development"]);
  client = new Client(server.url);
  folder = await mkdtemp(join(tmpdir(), "models-"));
});
afterAll(async () => {
  await server.stop();
  await rm(folder, { recursive: true });
});

test("the life of a model", async () => {
  const { models } = client;
  const said = { description: "2 x + 1", tags: ["small"], owner: "me", metrics: { accuracy: 0.5 } };
  const registered = await models.register("flowers", await modelFiles(AFFINE), said);
  expect([registered.name, registered.version]).toEqual(["flowers", "1.0.0"]);
  expect(registered.registration.metadata).toMatchObject({ owner: "me", tags: ["small"], metrics: { accuracy: 0.5 } });
  expect(registered.files.map((file) => file.path)).toEqual(["affine.py"]);
  const again = models.register("flowers", { "other.py": "import penstock\n" }, { version: "1.0.0" });
  await expect(again).rejects.toBeInstanceOf(ConflictError);
  expect((await models.registerFrom("flowers", { path: AFFINE }, { version: "1.1.0" })).version).toBe("1.1.0");

  expect(await models.load("flowers", "1.0.0")).toEqual({ name: "flowers", version: "1.0.0", lazy: false });
  expect((await models.promote("flowers", "1.0.0")).version).toBe("1.0.0");
  expect((await client.predict("flowers", [1, 2, 3, 4])).version).toBe("1.0.0");
  expect((await models.promote("flowers", "1.1.0", { reason: "it is newer" })).version).toBe("1.1.0");
  expect((await client.predict("flowers", [1, 2, 3, 4])).version).toBe("1.1.0");
  expect((await models.rollback("flowers", { reason: "it is not better" })).version).toBe("1.0.0");

  expect((await models.setAlias("flowers", "staging", "1.1.0")).previous).toBeNull();
  expect((await models.alias("flowers", "staging")).version).toBe("1.1.0");
  const moved = models.setAlias("flowers", "staging", "1.0.0", { expected: "1.0.0" });
  await expect(moved).rejects.toBeInstanceOf(ConflictError);
  const removed = await models.removeAlias("flowers", "staging", { reason: "done", expected: "1.1.0" });
  expect(removed.previous).toBe("1.1.0");
  await expect(models.alias("flowers", "staging")).rejects.toBeInstanceOf(VersionNotFoundError);

  const listed = (await models.list()).map(({ name, version }) => `${name} ${version}`);
  expect(listed).toEqual(expect.arrayContaining(["affine 1", "flowers 1.0.0", "flowers 1.1.0"]));
  const page = await models.page({ limit: 1 });
  expect([page.models.length, (await models.page({ after: page.next ?? "" })).models.length]).toEqual([
    1,
    listed.length - 1,
  ]);
  expect((await models.historyPage("flowers", { limit: 1 })).events.length).toBe(1);
  expect((await models.show("flowers")).aliases).toEqual({ champion: "1.0.0" });
  expect((await models.version("flowers", "1.0.0")).state).toBe("ready");
  const events = await models.history("flowers");
  expect(events.length).toBeGreaterThan(6);
  expect((await models.history("flowers", { limit: 2 })).map((event) => event.number)).toEqual(
    events.slice(0, 2).map((event) => event.number),
  );

  expect((await models.unload("flowers", "1.1.0")).version).toBe("1.1.0");
  await expect(models.remove("flowers", "1.0.0")).rejects.toBeInstanceOf(ConflictError);
  expect((await models.remove("flowers", "1.1.0")).removed).toBe(true);
  await models.unload("flowers");
  await models.removeAlias("flowers", "champion");
  expect(await models.remove("flowers")).toMatchObject({ name: "flowers", removed: true });
  await expect(models.show("flowers")).rejects.toBeInstanceOf(ModelNotFoundError);
});

test("a version that would break clients is promoted when that is said", async () => {
  const { models } = client;
  const other = (await readFile(SOURCE, "utf8")).replaceAll('"y"', '"z"');
  await models.register("leaves", await modelFiles(AFFINE), { version: "1.0.0" });
  await models.register("leaves", { "other.py": other }, { version: "2.0.0" });
  await models.promote("leaves", "1.0.0");
  await expect(models.promote("leaves", "2.0.0")).rejects.toThrow("would break clients of 1.0.0");
  expect((await models.promote("leaves", "2.0.0", { allowSchemaChange: true })).version).toBe("2.0.0");
  expect((await models.rollback("leaves")).version).toBe("1.0.0");
  await expect(models.setAlias("leaves", "champion", "2.0.0")).rejects.toBeInstanceOf(ConflictError);
  const moved = await models.setAlias("leaves", "champion", "2.0.0", { allowSchemaChange: true });
  expect(moved.previous).toBe("1.0.0");
});

describe("files", () => {
  test("of a folder, and of a page, whatever they are called", async () => {
    const inner = join(folder, "inner", "é".repeat(60));
    await mkdir(join(folder, "__pycache__"));
    await mkdir(inner, { recursive: true });
    const source = await readFile(SOURCE, "utf8");
    await writeFile(join(folder, "model.py"), source);
    await writeFile(join(folder, "__pycache__", "model.pyc"), "x");
    await writeFile(join(inner, `${"n".repeat(120)}.txt`), "long");
    const files = await modelFiles(folder);
    const names = ["model.py", `inner/${"é".repeat(60)}/${"n".repeat(120)}.txt`].sort();
    expect(Object.keys(files).sort()).toEqual(names);
    const registered = await client.models.register("named", files);
    expect(registered.files.map((file) => file.path).sort()).toEqual(names);
    const page = { "model.py": new Blob([source]), "notes.txt": new TextEncoder().encode("x".repeat(512)), empty: "" };
    const other = await client.models.register("paged", page);
    expect(other.files.map(({ path, bytes }) => [path, bytes])).toEqual([
      ["empty", 0],
      ["model.py", source.length],
      ["notes.txt", 512],
    ]);
    await client.models.load("paged", "1.0.0");
    await client.models.promote("paged", "1.0.0");
    expect((await client.predict("paged", [1, 2, 3, 4])).output).toEqual([3, 5, 7, 9]);
  });

  describe("beside a file", () => {
    let lone: string;

    async function having(files: Record<string, unknown>): Promise<string> {
      for (const [name, content] of Object.entries(files)) {
        await writeFile(join(lone, name), typeof content === "string" ? content : JSON.stringify(content));
      }
      return join(lone, "a.pt");
    }
    beforeEach(async () => {
      lone = await mkdtemp(join(tmpdir(), "models-"));
    });
    afterEach(() => rm(lone, { recursive: true }));

    test("belong to it by their names", async () => {
      const path = await having({
        "a.pt": "",
        "a.schema.json": {},
        "golden.json": {},
        "b.golden.json": {},
        "b.py": "",
      });
      expect(Object.keys(await modelFiles(path))).toEqual(["a.pt", "schema.json", "golden.json"]);
    });

    test("belong to it because they are named", async () => {
      const features = [{ steps: [{ tokens: "words.json" }, { tokens: "words.json" }, { tokens: 3 }] }, {}];
      const path = await having({ "a.pt": "", "schema.json": { class: "net.py:Net" }, "net.py": "", "words.json": "" });
      await having({ "a.processing.json": { features }, "processing.toml": "other" });
      const names = ["a.pt", "schema.json", "net.py", "processing.json", "words.json"];
      expect(Object.keys(await modelFiles(path))).toEqual(names);
      await rm(join(lone, "a.processing.json"));
      await having({ "processing.toml": "steps = [{tokens = \"words.json\"}, {tokens = 'none.json'}]" });
      const inToml = ["a.pt", "schema.json", "net.py", "processing.toml", "words.json"];
      expect(Object.keys(await modelFiles(path))).toEqual(inToml);
    });

    test.each<[string, Record<string, unknown>]>([
      ["there is none", { "schema.json": { class: "gone.py:Net" } }],
      ["must lie in the folder", { "schema.json": { class: "../net.py:Net" } }],
      ["plain Python model", { "schema.json": { class: "model.py:Net" } }],
      ["two plans", { "processing.json": {}, "processing.toml": "" }],
      ["must lie in the folder", { "processing.json": { features: [{ steps: [{ tokens: "/etc/passwd" }] }] } }],
    ])("are refused: %s", async (text, files) => {
      await expect(modelFiles(await having({ "a.pt": "", ...files }))).rejects.toThrow(text);
    });

    test("are not links out of a folder", async () => {
      await symlink(AFFINE, join(lone, "model.py"));
      await expect(modelFiles(lone)).rejects.toThrow("a link out of the folder");
    });
  });

  test("that are none", async () => {
    await expect(modelFiles("/nowhere")).rejects.toBeInstanceOf(ArgumentError);
    for (const files of [{}, { "penstock.json": "{}" }, { "../up": "" }, { "/root": "" }]) {
      await expect(client.models.register("none", files)).rejects.toBeInstanceOf(ArgumentError);
    }
    await expect(client.models.show("..")).rejects.toBeInstanceOf(ArgumentError);
  });
});

test("keys open what their role allows", async () => {
  const made = await client.keys.create("laptop", "predict");
  expect(made.key).toMatch(/^psk_/);
  expect((await client.keys.list()).map((key) => [key.name, key.role])).toEqual([["laptop", "predict"]]);
  const own = new Client(server.url, { key: made.key });
  expect((await own.models.list()).length).toBeGreaterThan(0);
  await expect(own.models.unload("affine")).rejects.toBeInstanceOf(ForbiddenError);
  expect((await client.keys.revoke(made.id)).revoked_at).not.toBeNull();
  await expect(own.models.list()).rejects.toBeInstanceOf(UnauthorizedError);
});

describe("the environment", () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  test.each(["PENSTOCK_API_KEY", "PENSTOCK_KEY"])("has the key as %s", async (name) => {
    vi.stubEnv(name, "psk_wrong");
    await expect(new Client(server.url).models.list()).rejects.toBeInstanceOf(UnauthorizedError);
  });

  test("has the address", async () => {
    vi.stubEnv("PENSTOCK_URL", server.url);
    expect(new Client().url).toBe(server.url);
    vi.stubEnv("PENSTOCK_URL", "nonsense");
    expect(() => new Client()).toThrow(ArgumentError);
    vi.stubEnv("PENSTOCK_URL", undefined);
    expect(new Client().url).toBe("http://127.0.0.1:8000");
  });
});

test("metrics are text", async () => {
  expect(await client.metrics()).toContain("# HELP ");
});

test("waiting for a server that does not come", async () => {
  const nobody = new Client("http://127.0.0.1:1");
  expect([await nobody.live(), await nobody.ready()]).toEqual([false, false]);
  await expect(nobody.waitReady({ timeoutMs: 100 })).rejects.toThrow("was not ready within 100 ms");
  const reason = new Error("enough");
  await expect(nobody.waitReady({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
