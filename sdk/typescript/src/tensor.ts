/** Tensors: numbers or strings in a row of memory, and their shape. */

import { arrayDType, type DataOf, type DType, FORMS, type TypedArray } from "./dtypes.js";
import { ArgumentError } from "./errors.js";

/** A value as plain JavaScript has it. */
export type Scalar = number | bigint | boolean | string | Uint8Array;

/** Scalars in arrays within arrays. */
export type Nested = Scalar | Nested[];

/**
 * A tensor. `data` is in C order and is the caller's own: what an answer holds may be written to.
 *
 * `new Tensor(new Float32Array(6), [2, 3])`. Without a shape it has one extent. The type is the array's own; "bool" of
 * a Uint8Array and "float16" of a Float32Array have to be said.
 */
export class Tensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: DataOf[D];

  constructor(data: TypedArray | readonly (string | Uint8Array)[], shape?: readonly number[], dtype?: D) {
    const own = Array.isArray(data) ? "str" : arrayDType(data);
    if (own === undefined) {
      throw new ArgumentError("a tensor is made of a typed array, or of an array of strings or bytes");
    }
    const held = own === "uint8" && dtype === "bool" ? "bool" : own;
    const named = dtype ?? held;
    if (named !== held && !(named === "float16" && held === "float32")) {
      throw new ArgumentError(`a tensor of ${named} is not made of an array of ${held}`);
    }
    this.dtype = named as D;
    this.shape = shape ?? [data.length];
    // Float16Array and clamped bytes, which pictures have, are held as what answers have.
    const holder = named === "str" ? undefined : FORMS[named].holder;
    const as = holder !== undefined && !(data instanceof holder) ? widened(data as TypedArray, named) : data;
    this.data = as as DataOf[D];
    if (this.shape.some((extent) => !Number.isInteger(extent) || extent < 0) || elements(this.shape) !== data.length) {
      throw new ArgumentError(`${data.length} values are no tensor of shape [${this.shape.join(", ")}]`);
    }
  }

  /** The only value; ArgumentError where there are several. */
  item(): Scalar {
    if (this.data.length !== 1) {
      throw new ArgumentError(`a tensor of shape [${this.shape.join(", ")}] is not one value`);
    }
    return this.#plain(0);
  }

  /** The values in arrays within arrays, one for each extent; of no extent, the value alone. Bools are true and false. */
  toNested(): Nested {
    let place = 0;
    const build = (depth: number): Nested => {
      if (depth === this.shape.length) {
        place += 1;
        return this.#plain(place - 1);
      }
      return Array.from({ length: this.shape[depth] as number }, () => build(depth + 1));
    };
    return build(0);
  }

  /** The tensor at a place of the first extent, which shares this one's data. */
  at(row: number): Tensor<D> {
    return this.slice(row, row + 1).reshape(this.shape.slice(1));
  }

  /** The places of the first extent from `begin` to before `end`, which share this one's data. */
  slice(begin: number, end: number): Tensor<D> {
    const [rows = 0, ...rest] = this.shape;
    if (
      this.shape.length === 0 ||
      !Number.isInteger(begin) ||
      !Number.isInteger(end) ||
      begin < 0 ||
      end > rows ||
      begin > end
    ) {
      throw new ArgumentError(`a tensor of shape [${this.shape.join(", ")}] has no rows ${begin} to ${end}`);
    }
    const size = elements(rest);
    const { data } = this;
    const part = Array.isArray(data)
      ? data.slice(begin * size, end * size)
      : (data as TypedArray).subarray(begin * size, end * size);
    return new Tensor(part, [end - begin, ...rest], this.dtype);
  }

  /** The same data in another shape. */
  reshape(shape: readonly number[]): Tensor<D> {
    return new Tensor(this.data as TypedArray, shape, this.dtype);
  }

  /** As JSON has it: toNested(). */
  toJSON(): Nested {
    return this.toNested();
  }

  #plain(place: number): Scalar {
    const value = this.data[place] as Scalar;
    return this.dtype === "bool" ? value === 1 : value;
  }
}

/** How many values a shape has. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, extent) => product * extent, 1);
}

function widened(data: TypedArray, dtype: DType): TypedArray {
  if (dtype === "float16") {
    return Float32Array.from(data as Float32Array);
  }
  const { holder } = FORMS[dtype as "uint8"];
  return new holder(data.buffer, data.byteOffset, data.length);
}

/** Whether a value is a typed array or a tensor. */
export function isArray(value: unknown): value is TypedArray | Tensor {
  return value instanceof Tensor || arrayDType(value) !== undefined;
}
