"""Two inputs, two outputs."""

from penstock.worker import Tensor


class Model:
    inputs = {"a": Tensor("float32", (2, 3)), "b": Tensor("int64", (5,))}
    outputs = {"scaled": Tensor("float32", (2, 3)), "total": Tensor("int64", ())}

    def predict(self, batch):
        return {"scaled": batch["a"] * 3, "total": batch["b"].sum(axis=1)}
