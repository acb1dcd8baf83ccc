"""Rows of any length: the number of each of them, and the numbers again."""

from penstock.worker import Tensor


class Model:
    inputs = {"ids": Tensor("int64", (None,))}
    outputs = {"twice": Tensor("int64", (None,))}

    def predict(self, batch):
        return {"twice": batch["ids"] * 2}
