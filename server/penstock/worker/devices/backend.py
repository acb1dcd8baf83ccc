"""A model on a device as a backend: it runs batches one by one like any other, or several in flight."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from penstock.core.errors import ModelLoadError
from penstock.processing.described import digest_of
from penstock.processing.record import Record
from penstock.processing.unfit import UnfitFeatureError
from penstock.worker.answers import Answers
from penstock.worker.arrays import Array, with_stand_ins
from penstock.worker.devices import Device, DeviceLostError, Stream
from penstock.worker.devices.contexts import BatchContext, Network
from penstock.worker.devices.feeds import Feed, PlainFeed, PlanFeed
from penstock.worker.fault import describe
from penstock.worker.model import TEXTS, BadOutputError, ModelSpec, TensorSpec

__all__ = ["FLIGHT_DEPTH", "GraphBackend"]

logger = logging.getLogger("penstock.worker.devices")

# One computes, one has its rows read, and one waits to be taken or answered. A fourth would only make rows wait.
FLIGHT_DEPTH = 3


class GraphBackend:
    """A backend whose runs are graphs on a device."""

    may_refuse_zeros = False

    def __init__(
        self, name: str, device: Device, network: Network, spec: ModelSpec, *, rows_min: int = 1, rerun: bool = True
    ) -> None:
        """ModelLoadError for a model that takes or gives strings, which a device cannot hold."""
        texts = [tensor.name for tensor in (*network.inputs, *network.outputs) if tensor.dtype in TEXTS]
        if texts:
            raise ModelLoadError(f"{texts[0]!r} holds strings, which {device.name} cannot run: set device = 'cpu'")
        self.name = name
        self.rerun = rerun
        self.spec = spec
        self.device = device
        self.network = network
        self._feed: Feed = PlainFeed(network.inputs)
        self._answers: Answers | None = None
        self._contexts: list[BatchContext] = []
        self._sizes: list[int] = []
        self._size_of: list[int] = []
        self._rows_min = rows_min
        self.record: Record | None = None  # that clients send, where there is a plan for one
        self.feed_seconds = 0.0  # of the largest batch's rows, once it is prepared
        self.varies = spec.varies  # a property that looks at each input, asked for each batch

    def process(
        self, feed: Feed | None, inputs: tuple[TensorSpec, ...], answers: Answers | None, record: Record | None
    ) -> GraphBackend:
        """Put what a plan says around the network: rows have other tensors, or answers are made of its outputs."""
        if feed is not None:
            self._feed = feed
            self.record = record
            self.spec = replace(self.spec, inputs=inputs, record="" if record is None else digest_of(record))
        if answers is not None:
            self._answers = answers
            self.spec = replace(self.spec, outputs=tuple(answers.outputs), labels=answers.labels)
        return self

    def prepare(self, rows_max: int, sizes: Sequence[int], lengths: Sequence[int]) -> None:
        """Take memory for batches and write down a graph for each size.

        DeviceMemoryError when there is no room, ModelLoadError when the model fails. `sizes` are those that batches are
        padded to, ascending; powers of two when there are none.
        """
        # A network with a least size runs batches below it by that: what is behind their rows is nobody's.
        self._sizes = sorted({max(size, self._rows_min) for size in list(sizes) or _powers(rows_max)})
        self._size_of = [next(size for size in self._sizes if size >= rows) for rows in range(self._sizes[-1] + 1)]
        # The last one is for runs that are waited for, while others fly.
        self._contexts = [
            BatchContext(self.device, self.network, self._feed, self.spec.inputs, self._sizes[-1])
            for _ in range(FLIGHT_DEPTH + 1)
        ]
        for context in self._contexts:
            for size in reversed(self._sizes):  # the largest first: frameworks then keep what the others need
                for length in lengths or (0,):
                    self._write_down(context, size, length)
        self.feed_seconds = self._contexts[-1].feed_seconds(self._sizes[-1], lengths[-1] if lengths else 0)

    def _write_down(self, context: BatchContext, size: int, length: int) -> None:
        try:
            context.prepare(size, length)
        except (DeviceLostError, MemoryError, ModelLoadError):
            raise
        except Exception as error:
            context.stream.fault()
            raise ModelLoadError(
                f"the model fails for {size} rows of zeros on {self.device.name}: {describe(error)}"
            ) from error

    @property
    def contexts(self) -> Sequence[BatchContext]:
        """Those that batches fly in."""
        return self._contexts[:-1]

    def size_for(self, rows: int) -> int:
        """Return the size of the graph that so many rows run by."""
        return self._size_of[rows]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`, and wait; see Backend.run."""
        context = self._contexts[-1]
        try:
            results = self._wait_for(inputs)
        except Exception:
            if not context.unfit:
                raise
        if not context.unfit:
            self.answer(results, outputs, lengths)
            return
        # Again without the unfit rows: a network may fail for what became of them, and an answer too.
        faults = self.faults(inputs)
        if len(faults) < len(inputs[0]):
            results = self._wait_for(with_stand_ins(inputs, faults))
            if self._contexts[-1].unfit:
                raise UnfitFeatureError({})
            self.answer(results, outputs, lengths)
        raise UnfitFeatureError(faults)

    def _wait_for(self, inputs: Sequence[Array]) -> list[Array]:
        context = self._contexts[-1]
        try:
            return context.run(inputs, self.size_for(len(inputs[0])), self.length_of(inputs))
        except Exception:
            context.stream.fault()  # DeviceLostError where it is that, whatever a library called it
            raise

    def faults(self, inputs: Sequence[Array]) -> dict[int, str]:
        """Return the first fault of each unfit row, where a context says that there is one.

        UnfitFeatureError where the host finds none.
        """
        assert isinstance(self._feed, PlanFeed)  # nothing else makes integers of numbers
        faults = self._feed.faults(inputs)
        if not faults:
            raise UnfitFeatureError({})
        return faults

    def length_of(self, inputs: Sequence[Array]) -> int:
        """Return what rows are padded to where they vary in length; else 0."""
        for tensor, array in zip(self.spec.inputs, inputs, strict=True):
            if tensor.varies:
                return int(array.shape[1])
        return 0

    def answer(self, results: Sequence[Array], outputs: Sequence[Array], lengths: Array | None) -> None:
        """Make the answers of rows of what the network gave for them."""

        def copy(_: Sequence[Array], to: Sequence[Array], __: Array | None) -> None:
            for result, output, tensor in zip(results, to, self.network.outputs, strict=True):
                if result[: len(output)].shape != output.shape:
                    raise BadOutputError(f"output {tensor.name!r} has shape {result.shape}, expected {output.shape}")
                output[...] = result[: len(output)]

        if self._answers is None:
            copy((), outputs, lengths)
        else:
            self._answers.run(copy, (), outputs, lengths)

    def streams(self) -> list[Stream]:
        """Return the streams of all contexts."""
        return [context.stream for context in self._contexts]


def _powers(rows_max: int) -> list[int]:
    sizes = [1]
    while sizes[-1] < rows_max:
        # 1, 2, 4, 8, 12, 16, 24, 32, 48, ...: at most a third of a batch is padding.
        last = sizes[-1]
        step = last * 3 // 2 if last >= 8 and last & (last - 1) == 0 else 1 << last.bit_length()
        sizes.append(min(step, rows_max))
    return sizes
