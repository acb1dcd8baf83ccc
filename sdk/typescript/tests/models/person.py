"""Slots of records, and their comment."""

from penstock.worker import Tensor


class Model:
    inputs = {"slots": Tensor("float64", (4,)), "comment": Tensor("str")}
    outputs = {"slots": Tensor("float64", (4,)), "comment": Tensor("str")}

    def predict(self, batch):
        return dict(batch)
