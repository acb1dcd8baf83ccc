"""The servers of a run of pytest: started when they are first asked for, shared by tests that ask for the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.core.errors import ConfigError, PenstockError
from penstock.testing.serving import Served, ServedEndError, ServeOptions, Setting, serve

__all__ = ["Servers"]

_LOG_CHARACTERS_MAX = 20_000


class Servers:
    """What the fixture `penstock_server` is: call it for a server.

    Also a plugin of pytest, once there is a server: a test that fails shows what the servers have written meanwhile.
    """

    def __init__(self, root: Path, settings: dict[str, Setting], start_s: float) -> None:
        self._root = root
        self._settings = settings
        self._start_s = start_s
        self._shared: dict[str, Served] = {}
        self._all: list[Served] = []
        self._written: dict[Served, int] = {}

    def __call__(
        self, *models: str | Path, config: str | Path | None = None, fresh: bool = False, **settings: Setting
    ) -> Served:
        """Return a server.

        Args:
            models: Files or folders, or NAME=PATH. Relative paths count from pytest's root folder.
            config: A file with settings, and perhaps models, as `penstock serve --config` takes it.
            fresh: One of its own, in place of the one that another test has asked for in the same way.
            settings: Settings as docs/configuration.md has them, such as max_batch_size=8.

        The test fails with what the server says when it does not start.
        """
        __tracebackhide__ = True
        options = ServeOptions(
            tuple(self._placed(str(model)) for model in models),
            None if config is None else Path(self._placed(str(config))),
            {**self._settings, **settings},
            self._start_s,
        )
        key = repr(options)
        known = self._shared.get(key)
        if known is not None and not fresh and known.process.poll() is None:
            return known
        failure = ""
        try:
            served = serve(options)
        except ConfigError as error:
            failure = f"penstock_server: {error}"
        except PenstockError as error:
            failure = f"penstock serve: {error}"
        if failure:  # here, or pytest would show the error once more as what this one comes from
            pytest.fail(failure, pytrace=False)
        self._all.append(served)
        if not fresh:
            self._shared[key] = served
        return served

    def stop(self) -> None:
        """Stop all; ServedEndError when one had ended, or did not stop as it should."""
        faults = []
        for served in self._all:
            try:
                served.stop()
            except ServedEndError as error:
                faults.append(f"{', '.join(served.models)}: {error}")
        self._all.clear()
        if faults:
            raise ServedEndError("\n".join(faults))

    def _placed(self, path: str) -> str:
        """Return a path from pytest's root folder, or from here where there is nothing."""
        name, equals, rest = path.partition("=")
        prefix, path = (f"{name}=", rest) if equals and "/" not in name else ("", path)
        rooted = self._root / path
        return f"{prefix}{rooted if rooted.exists() else path}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Note how much the servers have written before a test."""
        self._written = {served: served.log.stat().st_size for served in self._running()}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add what they have written meanwhile to the report of a test that failed."""
        if not report.failed:
            return
        for served in self._running():
            with served.log.open("rb") as log:
                log.seek(self._written.get(served, 0))
                text = log.read().decode(errors="replace")
            if text.strip():
                report.sections.append((f"penstock serve {', '.join(served.models)}", text[-_LOG_CHARACTERS_MAX:]))

    def _running(self) -> Iterator[Served]:
        return (served for served in self._all if served.log.exists())
