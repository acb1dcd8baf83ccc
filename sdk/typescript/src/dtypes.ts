/** Types of tensors: the protocol's names, ours, and what holds their numbers. */

/** What a tensor holds. "str" is text or bytes. */
export type DType =
  | "bool"
  | "uint8"
  | "uint16"
  | "uint32"
  | "uint64"
  | "int8"
  | "int16"
  | "int32"
  | "int64"
  | "float16"
  | "float32"
  | "float64"
  | "str";

/** Numbers in a row of memory. */
export type TypedArray =
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/** What holds a tensor of each type. Numbers of 16 bits are widened, which changes none of them. */
export interface DataOf {
  bool: Uint8Array;
  uint8: Uint8Array;
  uint16: Uint16Array;
  uint32: Uint32Array;
  uint64: BigUint64Array;
  int8: Int8Array;
  int16: Int16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  float16: Float32Array;
  float32: Float32Array;
  float64: Float64Array;
  str: (string | Uint8Array)[];
}

/** The class of a typed array, as far as it is used here. */
export interface ArrayClass {
  new (length: number): TypedArray;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TypedArray;
  readonly BYTES_PER_ELEMENT: number;
}

/** How a type is written: its name in the protocol, its bytes, and what holds it here. */
export interface Form {
  readonly datatype: string;
  readonly bytes: number;
  readonly holder: ArrayClass;
  /** The least and the greatest whole number; undefined for floats. */
  readonly least?: bigint;
  readonly greatest?: bigint;
}

function whole(datatype: string, holder: ArrayClass, bits: number, signed: boolean): Form {
  const span = 1n << BigInt(bits - (signed ? 1 : 0));
  return { datatype, bytes: bits / 8, holder, least: signed ? -span : 0n, greatest: span - 1n };
}

/** Every type of numbers. */
export const FORMS: Readonly<Record<Exclude<DType, "str">, Form>> = {
  bool: { datatype: "BOOL", bytes: 1, holder: Uint8Array, least: 0n, greatest: 1n },
  uint8: whole("UINT8", Uint8Array, 8, false),
  uint16: whole("UINT16", Uint16Array, 16, false),
  uint32: whole("UINT32", Uint32Array, 32, false),
  uint64: whole("UINT64", BigUint64Array, 64, false),
  int8: whole("INT8", Int8Array, 8, true),
  int16: whole("INT16", Int16Array, 16, true),
  int32: whole("INT32", Int32Array, 32, true),
  int64: whole("INT64", BigInt64Array, 64, true),
  float16: { datatype: "FP16", bytes: 2, holder: Float32Array },
  float32: { datatype: "FP32", bytes: 4, holder: Float32Array },
  float64: { datatype: "FP64", bytes: 8, holder: Float64Array },
};

const DTYPES = new Map<string, DType>([
  ["BYTES", "str"],
  ...Object.entries(FORMS).map(([dtype, form]): [string, DType] => [form.datatype, dtype as DType]),
]);

/** The type that the protocol calls so; undefined for none. */
export function dtypeOf(datatype: string): DType | undefined {
  return DTYPES.get(datatype);
}

/** The protocol's name of a type. */
export function datatypeOf(dtype: DType): string {
  return dtype === "str" ? "BYTES" : FORMS[dtype].datatype;
}

// By what an array calls itself, which holds across the realms of frames and workers.
const BY_ARRAY: Readonly<Record<string, Exclude<DType, "str">>> = {
  Uint8Array: "uint8",
  Uint8ClampedArray: "uint8",
  Uint16Array: "uint16",
  Uint32Array: "uint32",
  BigUint64Array: "uint64",
  Int8Array: "int8",
  Int16Array: "int16",
  Int32Array: "int32",
  BigInt64Array: "int64",
  Float16Array: "float16",
  Float32Array: "float32",
  Float64Array: "float64",
};

/** The type of a typed array's numbers; undefined for what is none. */
export function arrayDType(value: unknown): Exclude<DType, "str"> | undefined {
  if (!ArrayBuffer.isView(value)) {
    return undefined;
  }
  return BY_ARRAY[Object.prototype.toString.call(value).slice(8, -1)];
}

/** Whether a value is bytes: a Uint8Array, such as a Buffer. */
export function isBytes(value: unknown): value is Uint8Array {
  return arrayDType(value) === "uint8" && Object.prototype.toString.call(value) === "[object Uint8Array]";
}

/** Whether this machine lays the bytes of a number out as the wire does. */
export const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The bits of the half-precision number that is nearest, ties to even. */
export function toHalf(value: number): number {
  float[0] = value;
  // Rounded twice, a number may miss the nearest by one: what float32 has dropped decides a tie.
  const dropped = Number.isNaN(value) ? 0 : Math.abs(value) - Math.abs(float[0]);
  const word = bits[0] as number;
  const sign = (word >>> 16) & 0x8000;
  const exponent = ((word >>> 23) & 0xff) - 112;
  const fraction = word & 0x7fffff;
  if (exponent >= 31) {
    const isNaN_ = exponent === 143 && fraction !== 0;
    return sign | (isNaN_ ? 0x7e00 : 0x7c00);
  }
  const shift = exponent > 0 ? 13 : 14 - exponent;
  if (shift > 24) {
    return sign;
  }
  const mantissa = exponent > 0 ? fraction : fraction | 0x800000;
  const kept = (exponent > 0 ? exponent << 10 : 0) + (mantissa >>> shift);
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  const up = rest > half || (rest === half && (dropped > 0 || (dropped === 0 && (kept & 1) === 1)));
  return sign | (kept + (up ? 1 : 0));
}

/** The number that the bits of a half-precision number stand for. */
export function fromHalf(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const fraction = half & 0x3ff;
  if (exponent === 31) {
    return fraction ? Number.NaN : sign * Infinity;
  }
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
