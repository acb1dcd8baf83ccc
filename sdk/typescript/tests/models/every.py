"""Gives back a tensor of every type."""

from penstock.worker import Tensor

TENSORS = {
    **{
        name: Tensor(name, (2,))
        for name in ("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
    },
    **{name: Tensor(name, (2,)) for name in ("float16", "float32", "float64")},
    "text": Tensor("str", (2,)),
    "blob": Tensor("bytes", ()),
}


class Model:
    inputs = TENSORS
    outputs = TENSORS

    def predict(self, batch):
        return dict(batch)
