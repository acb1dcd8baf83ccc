"""A model with a plan: it sees what is made of records, and clients what is made of its outputs.

It is a backend around the model's own.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path

from penstock.core.errors import ModelLoadError, RequestError
from penstock.core.written_file import WrittenFile
from penstock.processing.answers.answer import Answer, read_answer
from penstock.processing.described import digest_of, example_of
from penstock.processing.feature_program import FeatureProgram
from penstock.processing.plan import Plan, read_plan
from penstock.processing.plan_files import FILE_BYTES_MAX
from penstock.processing.program import RECORD, Origin, Wiring, wire
from penstock.processing.record import Record
from penstock.processing.slots import slots_of
from penstock.processing.steps.counting import WordCounter
from penstock.processing.unfit import UnfitFeatureError
from penstock.worker.answers import Answers
from penstock.worker.arrays import Array, aligned_room, with_stand_ins
from penstock.worker.backends import Backend
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.devices.feeds import PlanFeed, feeds_device
from penstock.worker.model import TensorSpec
from penstock.worker.pixels import Pixels
from penstock.worker.tokens import Tokenizer

__all__ = ["Processed", "processed"]

logger = logging.getLogger("penstock.worker")


def processed(backend: Backend, file: Path) -> Backend:
    """Put a plan around a model's backend; ModelLoadError when it does not fit."""
    plan = read_plan(file)
    return _on_device(backend, plan) if isinstance(backend, GraphBackend) else Processed(backend, plan)


def _on_device(backend: GraphBackend, plan: Plan) -> Backend:
    """Let the device make the features, where it can; the host makes the answers."""
    feed, inputs = None, backend.spec.inputs
    if plan.record is not None:
        wiring = _wiring(plan, backend)
        if not feeds_device(wiring):
            logger.warning("words and tokens are counted by the host: batches run one by one")
            return Processed(backend, plan)
        try:
            feed = PlanFeed(wiring, inputs, backend.device)
        except ValueError as error:
            logger.warning("the features are made by the host, and batches run one by one: %s", error)
            return Processed(backend, plan)
        inputs = _tensors_of(plan.record, wiring, inputs)
    answers = None
    if plan.answer:
        answers = Answers(plan.file, _answer_of(plan), backend.spec)
    return backend.process(feed, inputs, answers, plan.record)


def _answer_of(plan: Plan) -> Answer:
    assert plan.answer is not None
    return read_answer(WrittenFile(plan.file, "plan", FILE_BYTES_MAX), plan.answer)


def _wiring(plan: Plan, backend: Backend) -> Wiring:
    if backend.spec.varies:
        raise ModelLoadError(f"{plan.file}: inputs of the model vary in length, and a plan's rows do not")
    inputs = backend.spec.inputs
    return wire(plan, [(tensor.name, tensor.ring_dtype, tensor.shape) for tensor in inputs])


class Processed:
    """A backend whose inputs are the tensors of a record, and whose outputs are those of an answer."""

    def __init__(self, backend: Backend, plan: Plan) -> None:
        """Raises ModelLoadError when the plan does not fit the model, or is not learned yet."""
        self._backend = backend
        self._features: _Features | None = None
        self._answers: Answers | None = None
        self.record = plan.record
        self.spec = backend.spec
        if plan.record is not None:
            self._take_records(plan)
        if plan.answer:
            self._answers = Answers(plan.file, _answer_of(plan), backend.spec)
            self.spec = replace(self.spec, outputs=tuple(self._answers.outputs), labels=self._answers.labels)

    def _take_records(self, plan: Plan) -> None:
        assert plan.record is not None
        inputs = self.spec.inputs
        wiring = _wiring(plan, self._backend)
        self._features = _Features(wiring, inputs, plan.file.parent)
        tensors = _tensors_of(plan.record, wiring, inputs)
        self.spec = replace(self.spec, inputs=tensors, record=digest_of(plan.record))

    @property
    def inner(self) -> Backend:
        """The model's own backend."""
        return self._backend

    @property
    def name(self) -> str:
        """The name of the model's own backend."""
        return self._backend.name

    @property
    def rerun(self) -> bool:
        """What the model's own backend says."""
        return self._backend.rerun

    @property
    def may_refuse_zeros(self) -> bool:
        """What the model's own backend says."""
        return self._backend.may_refuse_zeros

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Make the features of all rows, run the model on them, and make the answer of what it gives.

        UnfitFeatureError tells which rows have none, once all others are answered.
        """
        faults: Mapping[int, str] = {}
        if self._features is not None:
            inputs, faults = self._features.of(inputs)
        if self._answers is None:
            self._backend.run(inputs, outputs, lengths)
        else:
            self._answers.run(self._backend.run, inputs, outputs, lengths)
        if faults:
            raise UnfitFeatureError(faults)


class _Features:
    """Makes a model's inputs of a record's tensors. Arrays are kept from batch to batch."""

    def __init__(self, wiring: Wiring, inputs: Sequence[TensorSpec], folder: Path) -> None:
        self._inputs = wiring.inputs
        self._dtypes = [tensor.dtype for tensor in inputs]
        self._numbers = wiring.numeric
        self._images = [(of, Pixels(of.step, inputs[of.input].dtype)) for of in wiring.images]
        self._program = FeatureProgram(wiring, [tensor.name for tensor in inputs])
        self._words = [(part, WordCounter(part.words)) for part in wiring.words]
        self._tokens = [(of, Tokenizer(folder, of.step)) for of in wiring.tokens]
        is_matrix = [origin is Origin.MATRIX for origin, _ in wiring.inputs]
        self._specs = [tensor for tensor, made in zip(inputs, is_matrix, strict=True) if made]
        self._room = [aligned_room(tensor, 1) for tensor in self._specs]

    def of(self, sources: Sequence[Array]) -> tuple[list[Array], Mapping[int, str]]:
        """Return the inputs, and the faults of rows for which another row stands; UnfitFeatureError if that is all."""
        rows = len(sources[0])
        if self._room and rows > len(self._room[0]):
            self._room = [aligned_room(tensor, rows) for tensor in self._specs]
        made = [room[:rows] for room in self._room]
        faults = self._program.faults([sources[place] for place in self._numbers], made)
        if len(faults) == rows > 0:
            raise UnfitFeatureError(faults)
        if faults:
            sources = with_stand_ins(sources, faults)
            self._program.run([sources[place] for place in self._numbers], made)
        for part, counter in self._words:
            counter.write(sources[part.source].tolist(), made[part.matrix], part.at)
        inputs = [made[place] if origin is Origin.MATRIX else sources[place] for origin, place in self._inputs]
        for of, tokenizer in self._tokens:
            arrays = tokenizer.arrays(sources[of.source].tolist(), [part for _, part in of.inputs])
            for (number, _), array in zip(of.inputs, arrays, strict=True):
                inputs[number] = array.astype(self._dtypes[number], copy=False)
        for image, pixels in self._images:
            inputs[image.input] = pixels.of(sources[image.source])
        return inputs, faults


def _tensors_of(record: Record, wiring: Wiring, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the tensors that a record is in the ring, its slots with a sample to try them with."""
    return tuple(
        replace(tensor, sample=_sample(record)) if tensor.name == RECORD else tensor
        for tensor in _record_inputs(wiring, inputs)
    )


def _sample(record: Record) -> tuple[float, ...]:
    """Return the slots of a record that is taken: what is made of zeros may be infinite, and models refuse that."""
    example = example_of(record)
    table = {field.name: [reduce(getitem, field.path, example)] for field in record.slots}
    try:
        return tuple(slots_of(record, table)[0].tolist())
    except RequestError:
        return ()  # a schema that takes nothing


def _record_inputs(wiring: Wiring, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the record's tensors. One that the model takes as it is is declared as the model declares it."""
    as_they_are = {
        place: tensor for tensor, (origin, place) in zip(inputs, wiring.inputs, strict=True) if origin is Origin.SOURCE
    }
    counted = {part.source for part in wiring.words} | {of.source for of in wiring.tokens}
    for place in counted & {place for place, tensor in as_they_are.items() if tensor.dtype == "bytes"}:
        raise ModelLoadError(
            f"{wiring.sources[place][0]!r} goes into the model as bytes, and is split into words: it takes two fields"
        )
    fits = {of.source: of.step.fit for of in wiring.images}
    return tuple(
        as_they_are.get(place, TensorSpec(name, "str" if place in counted else dtype, shape, fit=fits.get(place)))
        for place, (name, dtype, shape) in enumerate(wiring.sources)
    )
