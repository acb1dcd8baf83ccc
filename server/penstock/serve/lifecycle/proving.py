"""Comparing a new version with the one that is served, on live traffic, before it gets any."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from penstock.core.errors import RequestError
from penstock.core.models import Mirror

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine

__all__ = ["prove"]

LOOK_SECONDS = 0.05


async def prove(engine: Engine, live: int, shadow: int, mirror: Mirror) -> None:
    """Run a share of the live rows through the new version's ring, too, and compare what comes out.

    RequestError load_failed when an output differs, a row fails that the other answered, or too few rows came.
    """
    try:
        engine.set_mirror(live, shadow, share=mirror.share, rtol=mirror.rtol, atol=mirror.atol)
    except ValueError as error:
        raise RequestError("load_failed", f"its traffic cannot be mirrored: {error}") from error
    try:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + mirror.timeout_s
        while True:
            seen = _look(engine, live)
            if seen["differing"] or seen["failed"]:
                raise RequestError(
                    "load_failed",
                    f"of {seen['compared'] + seen['failed']} mirrored rows {seen['differing']} differ beyond rtol "
                    f"{mirror.rtol:g} and atol {mirror.atol:g} (by up to {seen['max_abs_difference']:.3g}) and "
                    f"{seen['failed']} failed; what was served before is served on",
                )
            if seen["compared"] >= mirror.rows:
                return
            if loop.time() >= deadline:
                raise RequestError(
                    "load_failed",
                    f"only {seen['compared']} of {mirror.rows} rows were compared within {mirror.timeout_s:g} s "
                    f"({seen['dropped']} were dropped): ask for fewer, for a larger share, or wait longer",
                )
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        with suppress(ValueError):  # the ring has gone, and its mirror with it
            engine.clear_mirror(live)


def _look(engine: Engine, live: int) -> Mapping[str, Any]:
    try:
        return engine.mirror(live)
    except ValueError:
        raise RequestError(
            "conflict", "the version that answers was started anew meanwhile, and what was compared is gone: try again"
        ) from None
