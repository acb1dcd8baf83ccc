"""Which version answers requests that name none: to another one, and back."""

from __future__ import annotations

from collections.abc import Mapping

from penstock.control.access import needs, principal
from penstock.control.reading import Members, body
from penstock.control.registered import RegisteredResource
from penstock.core.models import Mirror
from penstock.registry.records import CHAMPION, Role

__all__ = ["Promote", "Rollback"]


class Promote(RegisteredResource):
    """To another version."""

    @needs(Role.OPERATOR)
    def post(self, name: str) -> Mapping[str, object]:
        """Load a version beside the one that answers, prove it, and let it answer; a refusal changes nothing."""
        wanted = body()
        version, reason = wanted.name("version"), wanted.text("reason", "")
        mirror = _mirror(wanted.members("mirror"))
        allow_schema_change = wanted.flag("allow_schema_change", default=False)
        wanted.done()
        promotion = self._lifecycle.promote(
            self._changeable(name),
            version,
            by=principal(),
            reason=reason,
            mirror=mirror,
            allow_schema_change=allow_schema_change,
        )
        self._call(promotion)
        champion = self._call(self._registry.version(name, CHAMPION))
        return {"name": name, "alias": CHAMPION, "version": champion.version}


class Rollback(RegisteredResource):
    """Back to the version before."""

    @needs(Role.OPERATOR)
    def post(self, name: str) -> Mapping[str, object]:
        """Let the version answer that did before the present one."""
        wanted = body()
        reason = wanted.text("reason", "")
        wanted.done()
        version = self._call(self._lifecycle.rollback(self._changeable(name), by=principal(), reason=reason))
        return {"name": name, "alias": CHAMPION, "version": version}


def _mirror(members: Members | None) -> Mirror | None:
    if members is None:
        return None
    usual = Mirror()
    mirror = Mirror(
        share=members.number("share", usual.share, 0.0001, 1),
        rows=members.whole("rows", usual.rows, 1, 1_000_000),
        rtol=members.number("rtol", usual.rtol, 0, 1e6),
        atol=members.number("atol", usual.atol, 0, 1e12),
        timeout_s=members.number("timeout_s", usual.timeout_s, 0.1, 86_400),
    )
    members.done()
    return mirror
