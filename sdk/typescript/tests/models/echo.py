"""Gives back what it got; a row that starts with a negative number makes it raise."""

from penstock.worker import Tensor


class Model:
    inputs = {"x": Tensor("float32", (4,))}
    outputs = {"y": Tensor("float32", (4,))}

    def predict(self, batch):
        if (batch["x"][:, 0] < 0).any():
            raise ValueError("negative")
        return {"y": batch["x"]}
