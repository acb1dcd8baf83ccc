/** What only Node has: files. */

import { openAsBlob } from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, extname, isAbsolute, join, sep } from "node:path";
import { ArgumentError } from "./errors.js";
import type { Files } from "./tar.js";

const SCHEMA = "schema.json";
// What belongs to a single file when it lies beside it.
const BESIDE = [SCHEMA, "golden.json"];
const PLANS = ["processing.json", "processing.toml"];
// What makes a folder a plain Python model, whatever else is in it.
const PYTHON_MODELS = ["__init__.py", "model.py"];
const TOML_TOKENS = /\btokens\s*=\s*(?:"([^"\\\n]+)"|'([^'\n]+)')/g;

/** A file's name in the model's folder, and where it lies. */
type Found = [name: string, path: string];

/**
 * Give a model's files for `client.models.register()`: those below a folder, or a file and what belongs to it.
 *
 * To a file belong schema, golden rows and plan beside it, as `STEM.schema.json` or `schema.json`, and the files that
 * these name. Files are read when they are sent.
 */
export async function modelFiles(path: string): Promise<Files> {
  const kind = await stat(path).catch(() => undefined);
  if (kind === undefined) {
    throw new ArgumentError(`there is no file or folder ${path}`);
  }
  const found = kind.isDirectory() ? await below(path, await realpath(path)) : await withBelongings(path);
  if (found.length === 0) {
    throw new ArgumentError(`there is nothing in ${path}`);
  }
  const files: [string, Blob][] = [];
  for (const [name, file] of found) {
    files.push([name, await openAsBlob(file)]);
  }
  return Object.fromEntries(files);
}

async function below(folder: string, root: string): Promise<Found[]> {
  const found: Found[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isSymbolicLink() && !(await realpath(path)).startsWith(root + sep)) {
      throw new ArgumentError(`${path} is a link out of the folder: put the file itself there`);
    }
    const kind = await stat(path);
    if (kind.isFile()) {
      found.push([entry.name, path]);
    } else if (entry.isDirectory() && entry.name !== "__pycache__") {
      const inner = await below(path, root);
      found.push(...inner.map(([name, file]): Found => [`${entry.name}/${name}`, file]));
    }
  }
  return found;
}

async function withBelongings(path: string): Promise<Found[]> {
  const found: Found[] = [[basename(path), path]];
  for (const name of BESIDE) {
    const file = BESIDE.includes(basename(path)) ? undefined : await beside(path, name);
    if (file !== undefined) {
      found.push([name, file], ...(name === SCHEMA ? await classFile(path, file) : []));
    }
  }
  const plans: Found[] = [];
  for (const name of PLANS) {
    const file = await beside(path, name);
    plans.push(...(file === undefined ? [] : [[name, file] as Found]));
  }
  const named = plans.filter(([name, file]) => basename(file) !== name);
  const own = named.length > 0 ? named : plans;
  if (own.length > 1) {
    throw new ArgumentError(`${own.map(([, file]) => file).join(" and ")} are two plans of one model: take one away`);
  }
  for (const [name, plan] of own) {
    found.push([name, plan], ...(await tokenizers(plan)));
  }
  return found;
}

async function beside(path: string, name: string): Promise<string | undefined> {
  const stem = basename(path, extname(path));
  for (const file of [join(dirname(path), `${stem}.${name}`), join(dirname(path), name)]) {
    if (file !== path && (await isFile(file))) {
      return file;
    }
  }
  return undefined;
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

/** The Python file whose class the schema names. What else is wrong with the schema, the server says. */
async function classFile(path: string, schema: string): Promise<Found[]> {
  const { class: declared } = await documentOf(schema);
  const name = typeof declared === "string" ? declared.slice(0, Math.max(declared.lastIndexOf(":"), 0)) : "";
  if (PYTHON_MODELS.includes(name)) {
    const where = `${basename(schema)} names the class file ${JSON.stringify(name)}`;
    throw new ArgumentError(`${where}, which would be taken for a plain Python model: give it another name`);
  }
  return name.endsWith(".py") && name !== basename(path) ? [await namedIn(schema, name)] : [];
}

async function tokenizers(plan: string): Promise<Found[]> {
  if (plan.endsWith(".toml")) {
    // Node reads no TOML. What this finds that is no file, the server says.
    const names = [...(await readFile(plan, "utf8")).matchAll(TOML_TOKENS)].map((found) => found[1] ?? found[2] ?? "");
    const files = await Promise.all(names.map((name) => namedIn(plan, name).catch(() => undefined)));
    return files.filter((file) => file !== undefined);
  }
  const { features } = await documentOf(plan);
  const steps = listed(features).flatMap((feature) => listed(feature["steps"]));
  const names = new Set(steps.map((step) => step["tokens"]).filter((name) => typeof name === "string"));
  return Promise.all([...names].map((name) => namedIn(plan, name)));
}

function listed(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "object" && item !== null) : [];
}

async function documentOf(path: string): Promise<Record<string, unknown>> {
  try {
    const document: unknown = JSON.parse(await readFile(path, "utf8"));
    return typeof document === "object" && document !== null ? (document as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

async function namedIn(document: string, name: string): Promise<Found> {
  const folder = await realpath(dirname(document));
  const where = `${basename(document)} names the file ${JSON.stringify(name)}`;
  const path = await realpath(join(folder, name)).catch(() => "");
  if (isAbsolute(name) || name.split("/").includes("..") || (path && !path.startsWith(folder + sep))) {
    throw new ArgumentError(`${where}: it must lie in the folder of ${basename(document)}`);
  }
  if (!(await isFile(path))) {
    throw new ArgumentError(`${where}, and there is none: put it beside ${basename(document)}`);
  }
  return [name, path];
}
