"""A picture of a server: a head, a table of its models, what went wrong, GPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.text import Text

from penstock.cli.tables import size
from penstock.cli.watch.columns import Histories, rate, table
from penstock.cli.watch.figures import Figures, GpuFigures, ModelFigures, ServerFigures
from penstock.cli.watch.watching import Gone

__all__ = ["View"]


class View:
    """Makes pictures. `histories` is what the watch keeps, and grows while the pictures are made."""

    def __init__(self, url: str, interval: float, model: str | None, histories: Histories) -> None:
        self._url = url
        self._interval = interval
        self._model = model
        self._histories = histories
        self._last_seen: datetime | None = None
        self._plain = not _prints(sys.stdout.encoding or "ascii", "▁█")

    def as_text(self, seen: Figures | Gone, width: int) -> str:
        """Return the picture as plain text."""
        return "\n".join(line.plain.rstrip() for line in self.lines(seen, width))

    def lines(self, seen: Figures | Gone, width: int, height: int | None = None) -> list[Text]:
        """Return the picture, no longer than `height`: models that nobody asks are left out first."""
        if isinstance(seen, Gone):
            return list(self._gone(seen))
        self._last_seen = datetime.now()
        above = [self._head(seen.server), self._answers(seen.server), Text()]
        below = [*self._errors(seen.models), *self._detail(seen.models), *_gpus(seen.gpus)]
        models: Sequence[ModelFigures] = seen.models
        room = len(models) if height is None else max(1, height - len(above) - len(below) - 2)
        left_out = len(models) - room
        if left_out > 0:
            models = models[:room]
        rows = table(models, self._histories, width, plain=self._plain) if models else [self._nothing()]
        more = [Text(f"and {left_out} more versions that are asked less", style="dim")] if left_out > 0 else []
        return [*above, *rows, *more, *below]

    def _head(self, server: ServerFigures) -> Text:
        line = Text(f"Penstock {server.version}", style="bold")
        line.append(f"  {self._url}  ", style="not bold")
        if server.draining:
            line.append("draining", style="yellow")
        else:
            line.append("ready" if server.ready else "not ready", style="green" if server.ready else "yellow")
        line.append(f"  {datetime.now():%H:%M:%S}, every {self._interval:g} s", style="not bold dim")
        return line

    def _answers(self, server: ServerFigures) -> Text:
        known = server.cpus_used is not None
        line = Text(f"{rate(sum(server.responses_per_s.values()) if known else None)} answers/s")
        for status, count in sorted(server.responses_per_s.items()):
            style = {"4": "yellow", "5": "red"}.get(status[:1], "dim")
            line.append(f"  {status} {rate(count)}", style=style)
        line.append(f"   {server.connections:,} connection{'' if server.connections == 1 else 's'}")
        for name, cpus, memory in (
            ("main process", server.cpus_used, server.memory_bytes),
            ("workers", server.workers_cpus_used, server.workers_memory_bytes),
        ):
            if memory is not None:
                line.append(f"   {name} {'-' if cpus is None else f'{cpus:.2f}'} CPUs, {size(memory)}")
        return line

    def _errors(self, models: Sequence[ModelFigures]) -> Iterator[Text]:
        for model in models:
            if model.errors_per_s:
                codes = "  ".join(f"{code} {rate(count)}/s" for code, count in sorted(model.errors_per_s.items()))
                yield Text(f"{model.model} {model.version}: {codes}", style="red")

    def _detail(self, models: Sequence[ModelFigures]) -> Iterator[Text]:
        """Yield where the time goes, of a model that is watched alone."""
        if self._model is None:
            return
        for model in models:
            yield Text()
            yield Text(f"version {model.version}", style="dim")
            yield _pair("  waiting", model.queue_ms_p50, model.queue_ms_p99)
            yield _pair("  running", model.run_ms_p50, model.run_ms_p99)
            yield Text(f"  batches  {rate(model.batches_per_s)}/s  {_listed(model.sealed_per_s)}".rstrip())
            if model.cache_hit_share is not None:
                yield Text(f"  cache    {model.cache_hit_share:.0%} of the rows")

    def _nothing(self) -> Text:
        if self._model is not None:
            return Text(f"the server has no model {self._model!r}", style="yellow")
        return Text("the server has no model", style="yellow")

    def _gone(self, gone: Gone) -> Iterator[Text]:
        yield Text(f"{self._url} does not answer; it is asked every {self._interval:g} s", style="bold red")
        yield Text(gone.text)
        if self._last_seen is not None:
            yield Text(f"it answered last at {self._last_seen:%H:%M:%S}", style="dim")


def _pair(name: str, p50: float | None, p99: float | None) -> Text:
    told = ("-" if value is None else f"{value:.2f}" for value in (p50, p99))
    return Text(f"{name}  p50 {next(told)}  p99 {next(told)} ms")


def _listed(rates: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {rate(value)}/s" for name, value in sorted(rates.items()))


def _gpus(gpus: Sequence[GpuFigures]) -> Iterator[Text]:
    if gpus:
        yield Text()
    for gpu in gpus:
        parts = [f"gpu {gpu.index}  {gpu.name}"]
        if gpu.utilization is not None:
            parts.append(f"{gpu.utilization:.0%} busy")
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes is not None:
            parts.append(f"{size(gpu.memory_used_bytes)} of {size(gpu.memory_total_bytes)}")
        if gpu.power_watts is not None:
            parts.append(f"{gpu.power_watts:.0f} W")
        if gpu.temperature_celsius is not None:
            parts.append(f"{gpu.temperature_celsius:.0f} °C")
        line = Text("  ".join(parts))
        if gpu.limited_by:
            line.append(f"  held down by {', '.join(gpu.limited_by)}", style="yellow")
        yield line


def _prints(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
