"""Looks at a server again and again, and keeps what sparklines show."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import penstock_client
from penstock.cli.watch.figures import Figures, figures_of
from penstock.cli.watch.samples import Interval, Sample, parse
from penstock.core.errors import PenstockError

__all__ = ["POINTS", "Gone", "History", "Watch"]

# Of a sparkline: the last minute at one second each.
POINTS = 60


@dataclass(frozen=True, slots=True)
class Gone:
    """The server did not answer."""

    error: penstock_client.PenstockError

    @property
    def text(self) -> str:
        """Why, in a sentence."""
        return self.error.detail


@dataclass(slots=True)
class History:
    """The last figures of a model version; None where there was nothing to tell."""

    rows_per_s: deque[float | None] = field(default_factory=lambda: deque(maxlen=POINTS))
    latency_ms_p99: deque[float | None] = field(default_factory=lambda: deque(maxlen=POINTS))


class Watch:
    """One server, looked at by one thread."""

    def __init__(
        self,
        client: penstock_client.Client,
        model: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.histories: dict[tuple[str, str], History] = {}
        self.known: set[str] = set()  # the models that the server had last
        self._client = client
        self._model = model
        self._clock = clock
        self._before: Sample | None = None
        self._seen = False

    def look(self) -> Figures | Gone:
        """Ask once. Raises what does not pass by waiting: a refusal, somebody else at the address."""
        try:
            text = self._client.metrics()
        except penstock_client.TransportError as error:
            return self._lost(error)
        except penstock_client.ServerError as error:
            if not error.code:
                raise
            return self._lost(error)  # it starts or ends
        sample = parse(text, self._clock())
        if not sample.values:
            raise PenstockError("what answers has no metrics of Penstock; is the address right?")
        self.known = {labels["model"] for labels, _ in sample.series("penstock_model_ready")}
        self._check_model()
        figures = figures_of(Interval.between(self._before, sample), self._model)
        self._before = sample
        self._note(figures)
        return figures

    def _check_model(self) -> None:
        """PenstockError at the first look when the model is not there; later it may come and go."""
        if self._model is not None and not self._seen and self._model not in self.known:
            try:
                self._client.models.show(self._model)  # it may be one that a request has yet to load
            except penstock_client.RefusedError:
                known = ", ".join(sorted(self.known)) or "none"
                raise PenstockError(f"the server has no model {self._model!r}; it has {known}") from None
        self._seen = True

    def _lost(self, error: penstock_client.PenstockError) -> Gone:
        # What happened meanwhile is not known, so the next sample is the first of a new beginning.
        self._before = None
        for history in self.histories.values():
            history.rows_per_s.append(None)
            history.latency_ms_p99.append(None)
        return Gone(error)

    def _note(self, figures: Figures) -> None:
        there = {(model.model, model.version): model for model in figures.models}
        for key in self.histories.keys() - there.keys():
            del self.histories[key]
        for key, model in there.items():
            history = self.histories.setdefault(key, History())
            history.rows_per_s.append(model.rows_per_s)
            history.latency_ms_p99.append(model.latency_ms_p99)
