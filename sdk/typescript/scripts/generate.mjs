// Writes src/openapi.ts and src/problems.ts from sdk/contract; with --check says whether they are current.
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const CONTRACT = new URL("../../contract/", import.meta.url);
const SOURCES = new URL("../src/", import.meta.url);
// Of these, the request has run, or may have.
const MAY_HAVE_RUN = ["model_error", "internal_error", "worker_died", "deadline_exceeded"];
// As the Python SDK calls it.
const RENAMED = { not_implemented: "NotImplementedByServerError" };

function className(code) {
  const words = code.split("_").map((word) => word[0].toUpperCase() + word.slice(1));
  const name = words.join("");
  return RENAMED[code] ?? (name.endsWith("Error") ? name : `${name}Error`);
}

function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length + 1 > width) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + word;
  }
  return lines.map((line) => ` * ${line}`).join("\n");
}

function classOf(entry) {
  const name = className(entry.code);
  const problem = {
    name,
    code: entry.code,
    status: entry.status,
    title: entry.title,
    retryable: entry.retryable,
    mayHaveRun: MAY_HAVE_RUN.includes(entry.code),
  };
  const members = Object.entries(problem).map(([key, value]) => `    ${key}: ${JSON.stringify(value)},`);
  return `
/**
 * ${entry.title}.
 *
${wrapped(entry.description, 116)}
 */
export class ${name} extends ${entry.status < 500 ? "ClientError" : "ServerError"} {
  static override readonly problem: Problem = {
${members.join("\n")}
  };
}
`;
}

async function problems() {
  const catalogue = JSON.parse(await readFile(new URL("problems.json", CONTRACT), "utf8"));
  const names = catalogue.map((entry) => className(entry.code));
  return `/** A class for each code of the catalogue. Written from sdk/contract/problems.json by \`npm run generate\`. */

import { ClientError, type Problem, type RefusedError, ServerError } from "./errors.js";
${catalogue.map(classOf).join("")}
/** Every code of the catalogue. */
export type ProblemCode =
${catalogue.map((entry) => `  | ${JSON.stringify(entry.code)}`).join("\n")};

/** The class of each code. */
export const CLASSES: ReadonlyMap<string, typeof RefusedError> = new Map<ProblemCode, typeof RefusedError>([
${catalogue.map((entry, at) => `  [${JSON.stringify(entry.code)}, ${names[at]}],`).join("\n")}
]);
`;
}

// Types that refer to themselves; as members of `components` TypeScript would refuse them.
const RECURSIVE = {
  "#/components/schemas/Value": "JsonValue",
  "#/components/schemas/InferData": "JsonData",
};
const RECURSIVE_TYPES = `
export type JsonValue = number | boolean | string | JsonValue[] | { base64: string };
export type JsonData = (number | boolean | string | JsonData)[];
`;

async function openapi() {
  const tree = await openapiTS(new URL("openapi.yaml", CONTRACT), {
    transform: (_, { path }) => path in RECURSIVE && ts.factory.createTypeReferenceNode(RECURSIVE[path]),
  });
  const about = "// Written from sdk/contract/openapi.yaml by `npm run generate`.";
  return `${about}\n${RECURSIVE_TYPES}\n${astToString(tree)}`;
}

const files = { "problems.ts": await problems(), "openapi.ts": await openapi() };
for (const [name, text] of Object.entries(files)) {
  const url = new URL(name, SOURCES);
  if (!process.argv.includes("--check")) {
    await writeFile(url, text);
    continue;
  }
  if ((await readFile(url, "utf8").catch(() => "")) !== text) {
    console.error(`sdk/typescript/src/${name} is not what sdk/contract says: run \`npm run generate\` there`);
    process.exitCode = 1;
  }
}
