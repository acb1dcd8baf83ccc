/** The answers to many rows, and how far a batch has come. */

import type { TypedArray } from "./dtypes.js";
import { ArgumentError, BatchError, type PenstockError } from "./errors.js";
import type { Value } from "./json.js";
import { Tensor } from "./tensor.js";
import { now } from "./waiting.js";

/** The values of an output, one for each row. */
export type Column = Value[] | Tensor;

/** The answers to many rows, in their order. */
export class BatchResult<Columns extends object = Record<string, Column>> {
  constructor(
    readonly model: string,
    /** The versions that answered; several when another one was promoted meanwhile. */
    readonly versions: readonly string[],
    /** The number of the first row, for a part of a batch. */
    readonly first: number,
    /** How many rows there are. */
    readonly length: number,
    /**
     * A column for each output: a tensor where the rows were arrays, else an array. Where a row failed, an array has
     * null, and a tensor NaN or, of whole numbers, 0.
     */
    readonly outputs: Columns,
    /** The error of each row that failed, by the row's number. */
    readonly errors: ReadonlyMap<number, PenstockError> = new Map(),
  ) {}

  /** The outputs of a row by its number; throws its error when it failed. */
  at(row: number): { [Name in keyof Columns]: Columns[Name] extends (infer V)[] ? V : Columns[Name] } {
    if (!Number.isInteger(row) || row < this.first || row >= this.first + this.length) {
      throw new RangeError(`there is no row ${row}`);
    }
    const error = this.errors.get(row);
    if (error !== undefined) {
      throw error;
    }
    const place = row - this.first;
    const entries = Object.entries(this.outputs as Record<string, Column>);
    const outputs = entries.map(([name, column]) => [name, Array.isArray(column) ? column[place] : column.at(place)]);
    return Object.fromEntries(outputs);
  }

  /** The outputs of each row, undefined for those that failed. */
  *[Symbol.iterator](): Generator<ReturnType<this["at"]> | undefined> {
    for (let row = this.first; row < this.first + this.length; row += 1) {
      yield this.errors.has(row) ? undefined : (this.at(row) as ReturnType<this["at"]>);
    }
  }

  /** Throws a BatchError when a row failed; gives the result itself otherwise. */
  throwForErrors(): this {
    const [failed] = this.errors;
    if (failed === undefined) {
      return this;
    }
    const [row, error] = failed;
    const text = `${this.errors.size} of ${this.length} rows failed; row ${row}: ${error.message}`;
    throw new BatchError(text, this, { cause: error, mayHaveRun: error.mayHaveRun });
  }
}

/** Put into places of failed rows what stands for no answer. */
export function blanked(tensor: Tensor, rows: readonly number[]): void {
  if (tensor.dtype.startsWith("float")) {
    for (const row of rows) {
      (tensor.slice(row, row + 1).data as Float32Array).fill(Number.NaN);
    }
  }
}

/** The result of a chunk that has no answer: every row has its error. */
export function failedChunk(model: string, first: number, rows: number, error: PenstockError): BatchResult {
  const errors = new Map(Array.from({ length: rows }, (_, row): [number, PenstockError] => [first + row, error]));
  return new BatchResult(model, [], first, rows, {}, errors);
}

/** Make one result of parts that follow each other. */
export function putTogether(model: string, parts: readonly BatchResult[]): BatchResult {
  const rows = parts.reduce((sum, part) => sum + part.length, 0);
  const errors = new Map(parts.flatMap((part) => [...part.errors]));
  const versions = [...new Set(parts.flatMap((part) => part.versions))];
  const names = [...new Set(parts.flatMap((part) => Object.keys(part.outputs)))];
  const outputs = Object.fromEntries(names.map((name) => [name, joined(name, parts, rows)]));
  return new BatchResult(model, versions, parts[0]?.first ?? 0, rows, outputs, errors);
}

function joined(name: string, parts: readonly BatchResult[], rows: number): Column {
  // Outputs may be called anything, also as what every object has: "constructor".
  const of = (part: BatchResult): Column | undefined =>
    Object.hasOwn(part.outputs, name) ? part.outputs[name] : undefined;
  const known = parts.map(of).find((column) => column !== undefined) as Column;
  if (Array.isArray(known)) {
    return parts.flatMap((part) => (of(part) as Value[] | undefined) ?? Array<Value>(part.length).fill(null));
  }
  const rest = known.shape.slice(1);
  const blank = (count: number): Tensor => {
    const size = count * rest.reduce((product, extent) => product * extent, 1);
    const data = Array.isArray(known.data)
      ? Array<string>(size).fill("")
      : new (known.data.constructor as new (length: number) => TypedArray)(size);
    return new Tensor(data, [count, ...rest], known.dtype);
  };
  const whole = blank(rows);
  let end = 0;
  for (const part of parts) {
    const given = of(part) as Tensor | undefined;
    const column = given ?? blank(part.length);
    checkSame(name, known, column);
    if (given === undefined) {
      blanked(
        column,
        Array.from({ length: part.length }, (_, row) => row),
      );
    }
    if (Array.isArray(whole.data)) {
      for (const [place, text] of (column.data as string[]).entries()) {
        whole.data[end + place] = text;
      }
    } else {
      (whole.data as Float64Array).set(column.data as Float64Array, end);
    }
    end += column.data.length;
  }
  return whole;
}

/** ArgumentError when the rows of two parts are no rows of one tensor: a shape may vary, or another version answers. */
function checkSame(name: string, one: Tensor, other: Tensor): void {
  const [first, second] = [one, other].map(({ dtype, shape }) => `${dtype}[${shape.slice(1).join(", ")}]`);
  if (first !== second) {
    const text = `outputs.${name} is ${first} in one chunk and ${second} in another, which are no rows of one tensor`;
    throw new ArgumentError(`${text}: take the parts from iterBatch(), or ask with encoding json`);
  }
}

/** How far a batch has come. */
export interface Progress {
  /** Rows that are done, and of these the ones that failed. */
  readonly rows: number;
  readonly failed: number;
  /** All rows; undefined where nobody has counted them. */
  readonly total: number | undefined;
  readonly elapsedMs: number;
  /** Rows in a second. */
  readonly rate: number;
  /** How long the rest takes at this rate; undefined where that cannot be said. */
  readonly leftMs: number | undefined;
}

/** Counts rows as they come and tells the caller. */
export class Watch {
  readonly #began = now();
  #rows = 0;
  #failed = 0;

  constructor(
    readonly tell: ((progress: Progress) => void) | undefined,
    readonly total: number | undefined,
  ) {}

  /** Note a part that is done. */
  saw(part: BatchResult): void {
    this.#rows += part.length;
    this.#failed += part.errors.size;
    const elapsedMs = now() - this.#began;
    const rate = elapsedMs > 0 ? (this.#rows / elapsedMs) * 1000 : 0;
    const left = this.total === undefined || rate === 0 ? undefined : ((this.total - this.#rows) / rate) * 1000;
    this.tell?.({ rows: this.#rows, failed: this.#failed, total: this.total, elapsedMs, rate, leftMs: left });
  }
}
