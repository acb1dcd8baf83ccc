"""A model of every element type, by the protocol's names of them."""

__all__ = ["DTYPES", "TYPES_SOURCE"]

DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "bytes",
}

# Each input comes back as the output of the same type.
TYPES_SOURCE = f'''\
"""Gives back a tensor of every element type."""

from penstock.worker import Tensor

DTYPES = {DTYPES!r}


class Model:
    inputs = {{f"in_{{name}}": Tensor(dtype, (3,)) for name, dtype in DTYPES.items()}}
    outputs = {{f"out_{{name}}": Tensor(dtype, (3,)) for name, dtype in DTYPES.items()}}

    def load(self):
        pass

    def predict(self, batch):
        return {{f"out_{{name}}": batch[f"in_{{name}}"] for name in DTYPES}}
'''
