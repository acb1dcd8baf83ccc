/** Values as tensors of the model's own types and shapes; what would lose more than precision is refused. */

import { arrayDType, type DType, FORMS, fromHalf, isBytes, type TypedArray, toHalf } from "./dtypes.js";
import { ArgumentError } from "./errors.js";
import type { ModelSchema, TensorSpec } from "./schema.js";
import { elements, isArray, Tensor } from "./tensor.js";

/** A tensor for each input, by its name. With `one` it is a row's, otherwise rows lie in front. */
export type Tensors = Map<string, Tensor>;

/**
 * Give a tensor for each input, in the model's own types.
 *
 * @param inputs An object of values by name, or a value for a model of one input.
 * @param schema What the model takes.
 * @param one Whether `inputs` is one row, which has no extent for rows.
 * @param convert Whether to put numbers into the model's types; false only gives them their shapes.
 */
export function fitted(inputs: unknown, schema: ModelSchema, one: boolean, convert = true): Tensors {
  const tensors: Tensors = new Map();
  for (const [name, value] of named(inputs, schema)) {
    const spec = schema.inputs.find((input) => input.name === name);
    const tensor = asTensor(name, value, spec, one);
    // Of a name that is none of the model's the server says what it knows.
    if (spec !== undefined) {
      checkShape(name, tensor, spec, one);
    }
    tensors.set(name, spec === undefined || !convert ? tensor : inDType(name, tensor, spec.dtype));
  }
  if (!one) {
    const counts = [...tensors].map(([name, tensor]) => `${name} ${tensor.shape[0]}`);
    if (new Set([...tensors.values()].map((tensor) => tensor.shape[0])).size > 1) {
      throw new ArgumentError(`the inputs have different numbers of rows: ${counts.join(", ")}`);
    }
  }
  return tensors;
}

function named(inputs: unknown, schema: ModelSchema): [string, unknown][] {
  if (typeof inputs === "object" && inputs !== null && !Array.isArray(inputs) && !isArray(inputs)) {
    return Object.entries(inputs);
  }
  const [only] = schema.inputs;
  if (only === undefined || schema.inputs.length > 1) {
    const names = schema.inputs.map((input) => input.name).join(", ");
    throw new ArgumentError(`model ${schema.name} has the inputs ${names}: give an object with a value for each`);
  }
  return [[only.name, inputs]];
}

function asTensor(name: string, value: unknown, spec: TensorSpec | undefined, one: boolean): Tensor {
  if (value instanceof Tensor) {
    return value;
  }
  if (spec?.dtype === "str" && isBytes(value)) {
    return new Tensor([value], one ? [] : [1]);
  }
  if (arrayDType(value) === undefined) {
    return flattened(name, value);
  }
  const data = value as TypedArray;
  return new Tensor(data, spec === undefined ? [data.length] : shapeFor(name, data.length, spec, one));
}

/** The shape of so many values, which the model's own tells: typed arrays have none. */
function shapeFor(name: string, length: number, spec: TensorSpec, one: boolean): readonly number[] {
  const extents = one ? spec.shape : [null, ...spec.shape];
  const free = extents.filter((extent) => extent === null).length;
  const rest = elements(extents.map((extent) => extent ?? 1));
  if (free > 1) {
    throw new ArgumentError(`inputs.${name}: ${length} values may have several shapes; give a Tensor with its own`);
  }
  const fits = free === 0 ? length === rest : rest > 0 && length % rest === 0;
  if (!fits) {
    throw new ArgumentError(`inputs.${name}: expected ${spec}${one ? "" : " for each row"}, got ${length} values`);
  }
  return extents.map((extent) => extent ?? length / rest);
}

function checkShape(name: string, tensor: Tensor, spec: TensorSpec, one: boolean): void {
  if (!one && tensor.shape.length === 0) {
    throw new ArgumentError(`inputs.${name}: a tensor of no extent holds no rows`);
  }
  const row = one ? tensor.shape : tensor.shape.slice(1);
  const fits =
    row.length === spec.shape.length && spec.shape.every((extent, at) => extent === null || extent === row[at]);
  if (!fits) {
    const got = `a tensor of shape [${tensor.shape.join(", ")}]`;
    throw new ArgumentError(`inputs.${name}: expected ${spec}${one ? "" : " for each row"}, got ${got}`);
  }
}

/** Arrays within arrays as a tensor of the widest type that they need. */
function flattened(name: string, value: unknown): Tensor {
  const shape: number[] = [];
  for (let inner = value; Array.isArray(inner); inner = inner[0]) {
    shape.push(inner.length);
  }
  const flat: unknown[] = [];
  const walk = (item: unknown, depth: number): void => {
    if (Array.isArray(item) !== depth < shape.length || (Array.isArray(item) && item.length !== shape[depth])) {
      throw new ArgumentError(`inputs.${name}: arrays of different lengths are no tensor`);
    }
    if (!Array.isArray(item)) {
      flat.push(item);
      return;
    }
    for (const inner of item) {
      walk(inner, depth + 1);
    }
  };
  walk(value, 0);
  const is = (test: (item: unknown) => boolean): boolean => flat.every(test);
  if (is((item) => typeof item === "string" || isBytes(item)) && flat.length > 0) {
    return new Tensor(flat as string[], shape);
  }
  if (is((item) => typeof item === "boolean") && flat.length > 0) {
    return new Tensor(Uint8Array.from(flat as boolean[], Number), shape, "bool");
  }
  if (is((item) => typeof item === "number")) {
    return new Tensor(Float64Array.from(flat as number[]), shape);
  }
  if (is((item) => typeof item === "bigint" || Number.isInteger(item))) {
    const whole = (flat as (bigint | number)[]).map(BigInt);
    const large = whole.some((item) => item > (FORMS.int64.greatest as bigint));
    const dtype = large ? "uint64" : "int64";
    const { least, greatest } = FORMS[dtype];
    if (whole.some((item) => item < (least as bigint) || item > (greatest as bigint))) {
      throw new ArgumentError(`inputs.${name}: a number beyond 64 bits`);
    }
    return new Tensor(large ? BigUint64Array.from(whole) : BigInt64Array.from(whole), shape);
  }
  throw new ArgumentError(`inputs.${name}: what it holds is neither all numbers, nor all bools, nor all strings`);
}

function inDType(name: string, tensor: Tensor, wanted: DType): Tensor {
  if (tensor.dtype === wanted) {
    return tensor;
  }
  if (tensor.dtype === "str" || wanted === "str") {
    if (tensor.data.length === 0 && wanted === "str") {
      return new Tensor([], tensor.shape);
    }
    throw new ArgumentError(`inputs.${name}: expected ${wanted}, got ${tensor.dtype}`);
  }
  const data = converted(tensor.data as TypedArray, tensor.dtype, wanted);
  if (data === undefined) {
    throw new ArgumentError(`inputs.${name}: ${tensor.dtype} does not become ${wanted} without loss`);
  }
  return new Tensor(data, tensor.shape, wanted);
}

/**
 * Give the numbers in another type, undefined where more would be lost than precision of floats.
 *
 * So 3 of float64 becomes 3 of uint8; but not 300, nor 3.5, and 1e39 no infinity of float32.
 */
function converted(data: TypedArray, from: DType, wanted: Exclude<DType, "str">): TypedArray | undefined {
  const { holder, least, greatest } = FORMS[wanted];
  const to = new holder(data.length) as unknown as (number | bigint)[];
  const big = wanted === "int64" || wanted === "uint64";
  // There are no typed arrays of bools, so bytes of 0 and 1 stand for them.
  if (wanted === "bool" && !(from === "uint8" || from === "int8")) {
    return undefined;
  }
  for (let place = 0; place < data.length; place += 1) {
    const value = data[place] as number | bigint;
    if (least === undefined || greatest === undefined) {
      const float = Number(value);
      // A half is rounded once, not by way of float32.
      to[place] = wanted === "float16" ? fromHalf(toHalf(float)) : float;
      if (Math.abs(to[place] as number) === Infinity && Math.abs(float) !== Infinity) {
        return undefined;
      }
    } else if (typeof value === "bigint" || Number.isInteger(value)) {
      const whole = big || typeof value === "bigint" ? BigInt(value) : value;
      if (whole < least || whole > greatest) {
        return undefined;
      }
      to[place] = big ? whole : Number(whole);
    } else {
      return undefined;
    }
  }
  return to as unknown as TypedArray;
}
