"""Whether a request is sent again, and when: only what certainly did not run, unless the caller says otherwise."""

from __future__ import annotations

import random
from dataclasses import dataclass

from penstock_client.errors import ArgumentError, PenstockError, ProtocolError, RefusedError, TransportError

__all__ = ["Retries"]


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how patiently a call is tried again.

    Attributes:
        attempts_max: Times that a request is sent at most; 1 sends nothing again.
        backoff_s: The first wait is between half of this and this, each further one twice as long.
        backoff_max_s: No wait is longer, but for one that the server asks for with Retry-After.
        retry_after_max_s: Where the server asks for a longer wait, its refusal is raised at once.
    """

    attempts_max: int = 4
    backoff_s: float = 0.05
    backoff_max_s: float = 2.0
    retry_after_max_s: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts_max < 1 or min(self.backoff_s, self.backoff_max_s, self.retry_after_max_s) < 0:
            raise ArgumentError(f"{self}: attempts_max is 1 or more, and seconds are not negative")

    def wait_s(self, error: PenstockError, attempt: int, repeatable: bool) -> float | None:
        """Return how long to wait before the request is sent again, None when it is not.

        Args:
            error: What became of the attempt.
            attempt: Its number, from 1.
            repeatable: Whether the caller has said that running it twice does no harm.
        """
        if attempt >= self.attempts_max or not _may_be_sent_again(error, repeatable):
            return None
        backoff = min(self.backoff_s * 2.0 ** min(attempt - 1, 30), self.backoff_max_s)
        backoff *= random.uniform(0.5, 1.0)
        asked = error.retry_after_s if isinstance(error, RefusedError) else None
        if asked is None:
            return backoff
        # All who were refused together would come back together, so a part of the back-off goes on top.
        return None if asked > self.retry_after_max_s else asked + backoff


def _may_be_sent_again(error: PenstockError, repeatable: bool) -> bool:
    if isinstance(error, RefusedError):
        # A refusal whose code is not in the catalogue comes from something in between, which cannot know.
        return error.retryable or (repeatable and error.status in (408, 429, 500, 502, 503, 504))
    if isinstance(error, ProtocolError):
        return False
    return isinstance(error, TransportError) and (repeatable or not error.may_have_run)
