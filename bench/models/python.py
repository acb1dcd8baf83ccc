"""A Python model for the soak: it doubles its input and raises for poison."""

__all__ = ["POISON", "PYTHON_MODEL"]

# The model raises for a row whose first number is this.
POISON = -12345.0

PYTHON_MODEL = f'''\
"""Twice the input; raises for a row that starts with the poison value."""

from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32", (8,))}}
    outputs = {{"y": Tensor("float32", (8,))}}

    def predict(self, batch):
        x = batch["x"]
        if (x[:, 0] == {POISON}).any():
            raise ValueError("poison")
        return {{"y": x * 2}}
'''
