"""Tests of models: a server for the time of a test, and checks that a model is held to.

For pytest there is the fixture `penstock_server` (docs/testing-models.md); `penstock test` makes the same checks.
"""

from penstock.testing.asserting import assert_accuracy, assert_fuzz, assert_golden, assert_latency
from penstock.testing.checks import Check, Outcome
from penstock.testing.serving import Served, ServedEndError

__all__ = [
    "Check",
    "Outcome",
    "Served",
    "ServedEndError",
    "assert_accuracy",
    "assert_fuzz",
    "assert_golden",
    "assert_latency",
]
