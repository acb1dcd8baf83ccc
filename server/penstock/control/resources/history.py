"""What happened to a model, and which version answered at a time."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control import descriptions
from penstock.control.reading import query, read_name
from penstock.control.registered import RegisteredResource
from penstock.core.errors import RequestError

__all__ = ["History"]

_PAGE = 100
_PAGE_MAX = 1000


class History(RegisteredResource):
    """The events of a model."""

    def get(self, name: str) -> Mapping[str, object]:
        """List events, the newest first and those `before` a number; `at` a time, which version answered where."""
        asked = query()
        at = asked.time("at")
        limit = asked.whole("limit", _PAGE, 1, _PAGE_MAX)
        before = asked.whole_or_none("before", 0, 1 << 62)
        asked.done()
        events = self._call(
            self._registry.history(read_name(name, "the model's name"), at=at, limit=limit, before=before)
        )
        if not events and at is None and before is None:
            # A model that was removed still has a history.
            raise RequestError(
                "model_not_found", f"no model {name!r} is registered or ever was; GET /models lists them"
            )
        more = at is None and len(events) == limit
        return {
            "name": name,
            "at": None if at is None else descriptions.moment(at),
            "events": [descriptions.event(event) for event in events],
            "next": events[-1].number if more else None,
        }
