"""What is said of rows whose features no input holds; apart from what finds them, which only models with plans need."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.core.errors import RequestError

__all__ = ["UnfitFeatureError"]

# A logarithm of a device may differ in its last bits from the host's, and only one of the two be out of range.
_AT_THE_END = "a feature is at the very end of what its integer input holds: let the plan clip it"


class UnfitFeatureError(RequestError):
    """Features of rows are no numbers that the integers of their inputs hold; `row` is the first such row.

    `faults` says what of which rows; it is empty where that is not known. Where a model has run, all other rows are
    answered. The detail is for whoever sent the first row, and so does not say which one it is; the text does.
    """

    def __init__(self, faults: Mapping[int, str]) -> None:
        self.row = min(faults, default=0)
        super().__init__("invalid_input", faults.get(self.row, _AT_THE_END))
        self.faults = faults
        self.args = (f"row {self.row}: {self.detail}",)
