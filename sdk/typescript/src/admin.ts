/** Administration: models and their versions, aliases, keys. */

import type { Call, CallOptions } from "./core.js";
import { ArgumentError } from "./errors.js";
import { toJson } from "./json.js";
import type { components } from "./openapi.js";
import { Retries } from "./retrying.js";
import { type Routes, target } from "./routes.js";
import { type Files, packed } from "./tar.js";

type Schemas = components["schemas"];
export type ModelList = Schemas["ModelList"];
export type History = Schemas["History"];
export type ModelSummary = Schemas["ModelSummary"];
export type Model = Schemas["Model"];
export type Version = Schemas["Version"];
export type Registered = Schemas["Registered"];
export type Loading = Schemas["Loading"];
export type Unloading = Schemas["Unloading"];
export type Removed = Schemas["Removed"];
export type Alias = Schemas["Alias"];
export type AliasChange = Schemas["AliasChange"];
export type Event = Schemas["Event"];
export type Key = Schemas["Key"];
export type NewKey = Schemas["NewKey"];
export type Role = Schemas["KeyRequest"]["role"];

/** What is said of a version that is registered. Without `version` it is the next minor one. */
export type RegisterOptions = Partial<Omit<Schemas["RegisterRequest"], "name" | "path" | "url" | "settings">> & {
  /** The model's own, such as {max_batch_size: 32}. */
  settings?: Readonly<Record<string, unknown>>;
};

/** Compare on live traffic first: a share of the requests, until so many rows have been compared. */
export type Mirror = Partial<NonNullable<Schemas["PromoteRequest"]["mirror"]>>;

// Where the server looks for what is said of the model.
const DOCUMENT = "penstock.json";
const PAGE = 1000;
// What is something else the second time: a database that was late may have done what it was not heard to do.
const ONCE: Call = { retries: new Retries({ attemptsMax: 1 }) };
// Loading, warming and proving a model takes as long as its settings let it.
function patient(call: CallOptions): CallOptions {
  return { ...call, timeoutMs: call.timeoutMs ?? Infinity };
}

/**
 * Registered models and their versions: `client.models`. A version may be given by an alias, too.
 *
 * What changes something needs a key with a role. Loading and promoting end when they are done, however long that
 * takes.
 */
export class Models {
  readonly #routes: Routes;

  constructor(routes: Routes) {
    this.#routes = routes;
  }

  /** Every version of every model, registered or configured. */
  async list(options: CallOptions = {}): Promise<ModelSummary[]> {
    const found: ModelSummary[] = [];
    let after: string | null | undefined;
    do {
      const page = await this.page({ limit: PAGE, after, ...options });
      found.push(...page.models);
      after = page.next;
    } while (after !== null && after !== undefined);
    return found;
  }

  /** Some versions, those behind NAME@VERSION; `next` of the page is what to go on after. */
  async page(options: CallOptions & { limit?: number; after?: string | null | undefined } = {}): Promise<ModelList> {
    const { limit, after, ...call } = options;
    return this.#routes.ask("GET", target("/models", [], { limit, after }), undefined, call);
  }

  /** A model with its versions. */
  async show(name: string, options: CallOptions = {}): Promise<Model> {
    return this.#routes.ask("GET", target("/models", [name]), undefined, options);
  }

  /** All that is known of a version. */
  async version(name: string, version: string, options: CallOptions = {}): Promise<Version> {
    return this.#routes.ask("GET", target("/models", [name, "versions", version]), undefined, options);
  }

  /**
   * Register files as a new version. Nothing is loaded yet.
   *
   * @param files By their names. In Node, modelFiles() of penstock-client/node reads them from a path.
   */
  async register(
    name: string,
    files: Files,
    said: RegisterOptions = {},
    options: CallOptions = {},
  ): Promise<Registered> {
    if (Object.keys(files).length === 0) {
      throw new ArgumentError("there are no files to register");
    }
    if (DOCUMENT in files) {
      throw new ArgumentError(`there is a file ${DOCUMENT}, which is what the registration is called in an archive`);
    }
    const body = packed({ ...files, [DOCUMENT]: toJson({ ...said, name }) });
    const request = { method: "POST", target: "/models", body, contentType: "application/x-tar" } as const;
    return this.#routes.read(await this.#routes.core.send(request, patient(options)));
  }

  /** Register what the server reads itself: a path of its file system, or a URL that it knows, such as s3://... */
  async registerFrom(
    name: string,
    source: { path: string } | { url: string },
    said: RegisterOptions = {},
    options: CallOptions = {},
  ): Promise<Registered> {
    return this.#change("POST", target("/models", []), { ...said, name, ...source }, options);
  }

  /** Have a version in memory; without one, the one that answers. With `lazy` from the first request for it. */
  async load(name: string, version?: string, options: CallOptions & { lazy?: boolean } = {}): Promise<Loading> {
    const { lazy = false, ...call } = options;
    return this.#change("POST", target("/models", [name, "load"]), { version, lazy }, call);
  }

  /** Have a version in memory no longer, without one: none of the model's, once its requests are answered. */
  async unload(name: string, version?: string, options: CallOptions = {}): Promise<Unloading> {
    return this.#change("POST", target("/models", [name, "unload"]), { version }, options);
  }

  /**
   * Let a version answer, once it has proved itself; with `mirror` once it was compared on live traffic. One whose
   * inputs or outputs break clients of the version that answers is refused, unless `allowSchemaChange` is true.
   */
  async promote(
    name: string,
    version: string,
    options: CallOptions & { reason?: string; mirror?: Mirror; allowSchemaChange?: boolean } = {},
  ): Promise<Alias> {
    const { reason = "", mirror, allowSchemaChange, ...call } = options;
    const wish = { version, reason, mirror, allow_schema_change: allowSchemaChange };
    return this.#change("POST", target("/models", [name, "promote"]), wish, call);
  }

  /** Let the version answer again that did before the last promotion. It is sent once: a second one goes further back. */
  async rollback(name: string, options: CallOptions & { reason?: string } = {}): Promise<Alias> {
    const { reason = "", ...call } = options;
    return this.#change("POST", target("/models", [name, "rollback"]), { reason }, { ...call, ...ONCE });
  }

  /** Where an alias points. */
  async alias(name: string, alias: string, options: CallOptions = {}): Promise<Alias> {
    return this.#routes.ask("GET", target("/models", [name, "aliases", alias]), undefined, options);
  }

  /**
   * Point an alias to a version; with `expected` only if it points there at the moment. To point `champion` to a
   * version is to promote it, with `allowSchemaChange` as there.
   */
  async setAlias(
    name: string,
    alias: string,
    version: string,
    options: CallOptions & { expected?: string; reason?: string; allowSchemaChange?: boolean } = {},
  ): Promise<AliasChange> {
    const { expected, reason = "", allowSchemaChange, ...call } = options;
    const wish = { version, reason, expected, allow_schema_change: allowSchemaChange };
    return this.#change("PUT", target("/models", [name, "aliases", alias]), wish, call);
  }

  /** Take an alias away; with `expected` only if it points there at the moment. */
  async removeAlias(
    name: string,
    alias: string,
    options: CallOptions & { expected?: string; reason?: string } = {},
  ): Promise<AliasChange> {
    const { expected, reason, ...call } = options;
    return this.#change("DELETE", target("/models", [name, "aliases", alias], { expected, reason }), undefined, call);
  }

  /** What has happened to a model, newest first: at most `limit` events (100), up to the time `at`. */
  async history(name: string, options: CallOptions & { at?: string; limit?: number } = {}): Promise<Event[]> {
    const { at, limit = 100, ...call } = options;
    const found: Event[] = [];
    let before: number | null | undefined;
    do {
      const asked = { limit: Math.min(limit - found.length, PAGE), before, at };
      const page = await this.historyPage(name, { ...asked, ...call });
      found.push(...page.events);
      before = page.next;
    } while (found.length < limit && before !== null && before !== undefined);
    return found;
  }

  /** Some events, those before the number `before`; `next` of the page is what to go on before. */
  async historyPage(
    name: string,
    options: CallOptions & { at?: string | undefined; limit?: number; before?: number | null | undefined } = {},
  ): Promise<History> {
    const { at, limit, before, ...call } = options;
    return this.#routes.ask("GET", target("/models", [name, "history"], { limit, before, at }), undefined, call);
  }

  /** Remove a version, or a model with all of them. What is in memory, or has an alias, is not removed. */
  async remove(name: string, version?: string, options: CallOptions = {}): Promise<Removed> {
    const parts = version === undefined ? [name] : [name, "versions", version];
    return this.#change("DELETE", target("/models", parts), undefined, options);
  }

  #change<T>(method: "POST" | "PUT" | "DELETE", route: string, document: unknown, call: CallOptions): Promise<T> {
    return this.#routes.ask(method, route, document, patient(call));
  }
}

/** Keys to the server: `client.keys`. All of it needs the role admin. */
export class Keys {
  readonly #routes: Routes;

  constructor(routes: Routes) {
    this.#routes = routes;
  }

  /** Make a key. Its text is in the answer's `key`, and never told again. It is sent once. */
  async create(name: string, role: Role, options: CallOptions = {}): Promise<NewKey> {
    return this.#routes.ask("POST", target("/keys", []), { name, role }, { ...options, ...ONCE });
  }

  /** All keys, without their texts. */
  async list(options: CallOptions = {}): Promise<Key[]> {
    const page = await this.#routes.ask<Schemas["KeyList"]>("GET", target("/keys", []), undefined, options);
    return page.keys;
  }

  /** Take a key's rights away. */
  async revoke(id: string, options: CallOptions = {}): Promise<Key> {
    return this.#routes.ask("DELETE", target("/keys", [id]), undefined, options);
  }
}
