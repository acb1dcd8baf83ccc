"""The rings of models, as the supervisor asks the engine for them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.config import ModelConfig
from penstock.core.errors import ModelLoadError
from penstock.serve.content import fingerprint
from penstock.serve.objectives import Priced
from penstock.serve.served_model import ServedModel
from penstock.worker.messages import CostSample, Loaded

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine
    from penstock.serve.served_record import ServedRecord

__all__ = ["Rings"]

# A worker is not trusted: what is longer than it may take to load is no run time.
_RUN_SECONDS_MAX = 86_400

logger = logging.getLogger("penstock.supervisor")


class Rings:
    """Makes, seeds and recovers rings. Used by the supervisor's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.replaced: list[int] = []  # rings of no use that still have their memory

    def ensure(self, model: ServedModel, loaded: Loaded) -> str | None:
        """See to it that the model has a sound ring for what a worker has loaded; say what is wrong if it cannot be."""
        refusal = model.contradiction(loaded)
        if refusal is not None or (model.ring is not None and not model.ring_lost):
            return refusal
        most, sizes = _sizes(model.config, loaded)
        if model.config.batch_sizes and not sizes:
            allowed = ", ".join(map(str, model.config.batch_sizes))
            return f"it takes at most {most} rows and batch_sizes allows only {allowed}: allow {most} or fewer"
        model.loaded = loaded
        try:
            model.record = _record(model.config, loaded)
            ring = self._add(model, loaded, sizes[-1] if sizes else most, sizes)
        except ModelLoadError as error:
            model.loaded = None
            return str(error)
        except (ValueError, OSError) as error:
            model.loaded = None
            return f"no ring can hold its rows: {error}"
        if model.ring is not None:
            self.replaced.append(model.ring)
        model.ring, model.ring_lost, model.workers_told = ring, False, 0
        model.max_batch_size = self._engine.ring_max_batch_size(ring)
        if model.samples:
            self._seed(model, ring)
        if model.max_batch_size < model.config.max_batch_size:
            logger.info("smaller batches than asked for", extra=model.facts(max_batch_size=model.max_batch_size))
        return None

    def _add(self, model: ServedModel, loaded: Loaded, max_batch_size: int, sizes: Sequence[int]) -> int:
        config = model.config
        return self._engine.add_ring(
            config.name,
            config.version,
            [(tensor.name, tensor.ring_dtype, tensor.declared_shape) for tensor in loaded.spec.inputs],
            [(tensor.name, tensor.ring_dtype, tensor.declared_shape) for tensor in loaded.spec.outputs],
            max_batch_size=max_batch_size,
            max_queue_delay_us=config.max_queue_delay_us,
            queue_bytes=config.queue_bytes,
            rerun_on_worker_death=model.rerun,
            slo_ms=config.slo_ms,
            weight=config.weight,
            batch_sizes=list(sizes),
            reproducible_batch_size=min(config.reproducible_rows, max_batch_size),
            group=config.group or "",
            lengths=config.lengths if loaded.spec.varies else (),
            max_batch_tokens=config.max_batch_tokens,
            string_bytes_max=config.string_bytes_max,
            cache_ttl_s=config.cache_ttl_s,
            cache_fingerprint=fingerprint(config, loaded),
            record=None if model.record is None else model.record.description,
            input_rooms=[] if model.record is None else model.record.rooms,
        )

    def descriptors(self, models: Iterable[ServedModel]) -> tuple[list[int], int]:
        """Return what a worker of these models attaches, rings before I/O loops, and how many loops there are."""
        loops = self._engine.loop_event_fds()
        return [*(self._engine.ring_fd(ring) for ring in _rings(models)), *loops], len(loops)

    def seed(self, model: ServedModel, samples: Iterable[CostSample]) -> bool:
        """Let the first samples of a model's rings be those of its first worker's warm-up; whether these are."""
        most = model.max_batch_size or 0
        usable = tuple(
            sample for sample in samples if 1 <= sample.rows <= most and 0 < sample.seconds < _RUN_SECONDS_MAX
        )
        if model.ring is None or model.samples or not usable:
            return False
        model.samples = usable
        self._seed(model, model.ring)
        return True

    def _seed(self, model: ServedModel, ring: int) -> None:
        for bucket, length in enumerate(model.config.lengths or (0,)):
            measured = [(sample.rows, sample.seconds) for sample in model.samples if sample.length == length]
            if measured:
                self._engine.seed_cost(ring, measured, bucket)

    def priced(self, models: Iterable[ServedModel]) -> list[Priced]:
        """Return those of the models of which a warm-up has measured what their batches cost."""
        known = [(model, model.ring, model.max_batch_size) for model in models if model.samples]
        return [
            Priced(model.config, most, _curve(self._engine.cost(ring, max(len(model.config.lengths) - 1, 0))))
            for model, ring, most in known
            if ring is not None and most is not None
        ]

    def fail_quarantined(self, model: ServedModel) -> None:
        """Give an error to the rows that wait for a worker in quarantine: there will be none."""
        if model.ring is not None:
            self._engine.fail_quarantined(model.ring)

    def tell_workers(self, model: ServedModel, count: int) -> None:
        """Let admission count on this many workers."""
        if model.ring is not None and model.workers_told != count:
            self._engine.set_workers(model.ring, count)
            model.workers_told = count

    def recover(self, model: ServedModel, slot: int) -> None:
        """Take the batches from a dead worker; `ring_lost` says afterwards whether the ring is of any use."""
        if model.ring is None:
            return
        result = self._engine.recover(model.ring, slot)
        if result["batches_requeued"] or result["batches_failed"]:
            logger.warning(
                "a dead worker's batches are recovered",
                extra=model.facts(
                    requeued=result["batches_requeued"],
                    rows_failed=result["rows_failed"],
                    blocks_quarantined=result["blocks_quarantined"],
                ),
            )
        if result["corrupt"] and not model.ring_lost:
            logger.error(
                "ring corrupt: the model's workers start again on another one", extra=model.facts(ring=model.ring)
            )
            model.ring_lost = True

    def quarantined(self, model: ServedModel) -> bool:
        """Whether rows of the model wait for a worker in quarantine, or are with one."""
        return model.ring is not None and not model.ring_lost and self._engine.quarantined(model.ring) > 0

    def batches_done(self, models: Iterable[ServedModel]) -> int:
        """Return how many batches of these models have been completed."""
        wanted = set(_rings(models))
        return sum(int(ring["batches_done"]) for ring in self._engine.stats()["rings"] if ring["ring"] in wanted)


def _rings(models: Iterable[ServedModel]) -> list[int]:
    return [model.ring for model in models if model.ring is not None]


def _record(config: ModelConfig, loaded: Loaded) -> ServedRecord | None:
    if not loaded.spec.record:
        return None
    from penstock.serve.served_record import served_record  # what reads plans: most models have none

    return served_record(config, loaded.spec.record)


def _curve(cost: Mapping[str, Any]) -> tuple[tuple[int, float], ...]:
    return tuple(zip(cost["rows"], cost["p99_seconds"], strict=True))


def _sizes(config: ModelConfig, loaded: Loaded) -> tuple[int, list[int]]:
    """Return the most rows that model and configuration agree to, and which of the allowed sizes are not above it."""
    most = min(config.max_batch_size, loaded.spec.max_batch_size or config.max_batch_size)
    return most, [size for size in config.batch_sizes if size <= most]
