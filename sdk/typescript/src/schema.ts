/** What a model takes and gives, as the Open Inference Protocol describes it. */

import { type DType, dtypeOf } from "./dtypes.js";

/** A tensor of one row. */
export class TensorSpec {
  constructor(
    readonly name: string,
    readonly dtype: DType,
    /** Its extents; null varies. */
    readonly shape: readonly (number | null)[],
  ) {}

  /** As errors have it: `x float32[4]`. */
  toString(): string {
    return `${this.name} ${this.dtype}[${this.shape.map((extent) => extent ?? "any").join(", ")}]`;
  }
}

/** The inputs and outputs of a model. */
export interface ModelSchema {
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/** Read what GET /v2/models/NAME answers; TypeError when it is something else. */
export function schemaOf(document: unknown): ModelSchema {
  const { name, inputs, outputs } = document as Record<string, unknown>;
  if (typeof name !== "string") {
    throw new TypeError("a model without a name");
  }
  return { name, inputs: tensors(inputs), outputs: tensors(outputs) };
}

function tensors(specs: unknown): TensorSpec[] {
  if (!Array.isArray(specs)) {
    throw new TypeError("a model without its tensors");
  }
  return specs.map((spec: { name: string; datatype: string; shape: number[] }) => {
    const dtype = dtypeOf(spec.datatype);
    if (dtype === undefined) {
      throw new TypeError(`a tensor of ${spec.datatype}, which this version does not know`);
    }
    // The first extent is the number of rows.
    const shape = spec.shape.slice(1).map((extent) => (extent < 0 ? null : extent));
    return new TensorSpec(spec.name, dtype, shape);
  });
}

/** Whether two descriptions are the same. */
export function sameSchema(one: ModelSchema, other: ModelSchema): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}
