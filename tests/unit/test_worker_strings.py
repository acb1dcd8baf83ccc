"""Tensors of strings in a worker: arrays of objects from a ring, and back into it when a row is done."""

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.native._batcher import Batch, Ring, Taker
from penstock.worker.arrays import Array
from penstock.worker.batch import BatchRunner
from penstock.worker.golden import prove, read_golden
from penstock.worker.messages import Loaded
from penstock.worker.model import BadOutputError, ModelSpec, TensorSpec
from penstock.worker.packets import from_packet, to_packet
from penstock.worker.warmup import warm_up

HEAP = 1024
X = TensorSpec("x", "str", (2,))
Y = TensorSpec("y", "bytes", ())


class Joining:
    """Joins the strings of a row; `change` may do anything to the joined ones."""

    name = "joining"
    rerun = True
    may_refuse_zeros = False
    spec = ModelSpec((X,), (Y,))

    def __init__(self, change: Callable[[Array, Array], None] = lambda inputs, outputs: None) -> None:
        self._change = change

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        outputs[0][...] = inputs[0][:, 0] + inputs[0][:, 1]
        self._change(inputs[0], outputs[0])


def storage(*texts: bytes, spans: Sequence[tuple[int, int]] | None = None) -> bytes:
    """A packed row: the heap, and where each string lies in it."""
    places, at = [], 0
    for text in texts:
        places.append((at, len(text)))
        at += len(text)
    heap = b"".join(texts).ljust(HEAP, b"\0")
    packed = heap + b"".join(struct.pack("<II", *span) for span in spans or places)
    return packed.ljust(-(-len(packed) // 64) * 64, b"\0")


class Bench:
    """A ring with its worker in one process."""

    def __init__(self) -> None:
        tensors = [("x", "bytes", (2,))], [("y", "bytes", ())]
        self.ring = Ring(*tensors, max_batch_size=16, block_rows=16, queue_bytes=1 << 20, rerun_on_worker_death=True)
        self._event = os.eventfd(0)
        self.taker = Taker([self.ring.fd], [self._event], 0)
        self.taker.read_as_str(0, [0])

    def close(self) -> None:
        os.close(self._event)

    def publish(self, *rows: bytes) -> None:
        claim = self.ring.claim(len(rows))
        assert claim is not None
        self.ring.publish(claim, list(rows))

    def take(self, *, quarantine: bool = False) -> Batch:
        taker = self.taker
        if quarantine:
            taker = Taker([self.ring.fd], [self._event], 0, quarantine=True)
            taker.read_as_str(0, [0])
        batch = taker.take(0)
        assert batch is not None
        return batch

    def answers(self) -> list[bytes | str]:
        """Return the string of each row, or what its error says."""
        done = self.ring.poll_done()
        assert done is not None
        found: list[bytes | str] = []
        for row in range(done.rows):
            error = self.ring.error(done, row)
            if error is not None:
                found.append(error[1].decode())
                continue
            output = self.ring.outputs(done, row)[0]
            offset, length = struct.unpack_from("<II", output, HEAP)
            assert not any(output[offset + length : HEAP])
            found.append(output[offset : offset + length])
        self.ring.handled(done, list(range(done.rows)))
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_a_batch_of_strings(bench: Bench) -> None:
    bench.publish(
        storage(b"a", b"\xc3\xa9"), storage(b"", b""), storage(b"\xff", b"\0"), storage(b"x" * 1000, b"y" * 24)
    )
    batch = bench.take()
    (x,) = batch.inputs
    assert x.dtype == object and x.shape == (4, 2) and not x.flags.writeable
    assert x.tolist() == [["a", "\u00e9"], ["", ""], ["\udcff", "\0"], ["x" * 1000, "y" * 24]]
    BatchRunner(Joining()).run(batch)
    assert bench.answers() == [b"a\xc3\xa9", b"", b"\xff\0", b"x" * 1000 + b"y" * 24]


def test_the_same_strings_as_bytes(bench: Bench) -> None:
    bench.taker.read_as_str(0, [])
    bench.publish(storage(b"a", b"\xff"))
    batch = bench.take()
    assert batch.inputs[0].tolist() == [[b"a", b"\xff"]]
    with pytest.raises(IndexError):
        bench.taker.read_as_str(0, [1])
    BatchRunner(Joining()).run(batch)
    assert bench.answers() == [b"a\xff"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (7, "output 'y' holds int where a string was expected"),
        (None, "output 'y' holds NoneType where a string was expected"),
        ("x" * (HEAP + 1), "output 'y' has more than 1024 bytes of strings: set string_bytes_max"),
        ("\ud800x", "output 'y' holds str where a string was expected"),
    ],
)
def test_a_row_of_something_else_fails_alone(bench: Bench, wrong: object, said: str) -> None:
    def change(inputs: Array, outputs: Array) -> None:
        for place in np.flatnonzero(inputs[:, 0] == "bad"):
            outputs[place] = wrong

    bench.publish(storage(b"a", b"b"), storage(b"bad", b""), storage(b"c", b"x" * 1021))
    BatchRunner(Joining(change)).run(bench.take())
    assert bench.answers() == [b"ab", said, b"c" + b"x" * 1021]


def test_an_array_that_was_reshaped_is_told(bench: Bench) -> None:
    batch = None

    def change(inputs: Array, outputs: Array) -> None:
        outputs.resize((1,), refcheck=False)

    bench.publish(storage(b"a", b"b"), storage(b"c", b"d"))
    batch = bench.take()
    BatchRunner(Joining(change)).run(batch)
    assert bench.answers() == ["output 'y' has another shape than it was given"] * 2


@pytest.mark.parametrize("span", [(HEAP + 1, 0), (HEAP, 1), (0, HEAP + 1), (2**32 - 1, 2**32 - 1), (8, 2**32 - 1)])
def test_strings_that_lead_out_of_their_heap_fail_their_row(bench: Bench, span: tuple[int, int]) -> None:
    bench.publish(storage(b"a", b"b"), storage(b"c", b"d", spans=[(0, 1), span]))
    batch = bench.take()
    assert batch.inputs[0].tolist() == [["a", "b"], ["c", ""]]
    BatchRunner(Joining()).run(batch)
    assert bench.answers() == [b"ab", "its strings are damaged in shared memory"]


def test_one_culprit_fails_and_no_other(bench: Bench) -> None:
    def change(inputs: Array, outputs: Array) -> None:
        if (inputs[:, 1] == "raise").any():
            raise BadOutputError("output 'y' is wrong")

    rows = [storage(b"%d" % number, b"raise" if number == 5 else b"") for number in range(13)]
    bench.publish(*rows)
    BatchRunner(Joining(change)).run(bench.take())
    expected: list[bytes | str] = [b"%d" % number for number in range(13)]
    expected[5] = "output 'y' is wrong"
    assert bench.answers() == expected


def test_row_by_row_each_is_stored_when_it_is_done(bench: Bench) -> None:
    bench.publish(storage(b"a", b"b"), storage(b"long", b"x" * 1000), storage(b"c", b"d"))
    for _ in range(2):  # workers that died with it
        bench.take()
        bench.ring.recover(0)

    def change(inputs: Array, outputs: Array) -> None:
        if inputs[0, 0] == "long":
            outputs[0] = "x" * 1025

    batch = bench.take(quarantine=True)
    assert batch.singly
    BatchRunner(Joining(change)).run(batch)
    said = "output 'y' has more than 1024 bytes of strings: set string_bytes_max"
    assert bench.answers() == [b"ab", said, b"cd"]


def test_rows_are_filled_up_to_a_size_that_is_allowed(bench: Bench) -> None:
    seen = []

    def change(inputs: Array, outputs: Array) -> None:
        seen.append(len(inputs))
        if (inputs[:, 0] == "bad").any():
            raise ValueError("bad")

    bench.publish(storage(b"a", b"b"), storage(b"bad", b""), storage(b"c", b"d"))
    BatchRunner(Joining(change), [4]).run(bench.take())
    assert bench.answers() == [b"ab", "ValueError: bad", b"cd"]
    assert set(seen[1:]) == {4}


def test_warm_up_runs_empty_strings_or_the_sample() -> None:
    seen: list[list[str]] = []
    warm_up(Joining(lambda inputs, outputs: seen.append(inputs.tolist()[0])), [2])
    assert seen == [["", ""]]
    sampled = Joining(lambda inputs, outputs: seen.append(inputs.tolist()[0]))
    for sample in ("a", ("b", "c")):
        sampled.spec = ModelSpec((TensorSpec("x", "str", (2,), sample=sample),), (Y,))
        warm_up(sampled, [1])
    assert seen[1:] == [["a", "a"], ["b", "c"]]


def test_warm_up_finds_outputs_that_are_no_strings() -> None:
    def change(inputs: Array, outputs: Array) -> None:
        outputs[-1] = 1.5

    with pytest.raises(ModelLoadError, match="output 'y' holds float where a string was expected"):
        warm_up(Joining(change), [1])


def test_golden_rows_of_strings(tmp_path: Path) -> None:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps({"inputs": {"x": [["a", "b"], ["\u00e9", ""]]}, "outputs": {"y": ["ab", "\u00e9"]}}))
    prove(Joining(), read_golden(path, Joining.spec), {0: 4})

    def change(inputs: Array, outputs: Array) -> None:
        outputs[inputs[:, 0] == "\u00e9"] = "e"

    with pytest.raises(ModelLoadError, match=r"row 1, output 'y': expected .*, got e "):
        prove(Joining(change), read_golden(path, Joining.spec), {0: 4})
    path.write_text(json.dumps({"inputs": {"x": [["a", 1]]}, "outputs": {"y": ["a"]}}))
    with pytest.raises(ModelLoadError, match="row 0 of input 'x' must hold strings"):
        read_golden(path, Joining.spec)


def test_a_worker_tells_which_strings_are_text() -> None:
    loaded = Loaded(0, "python", Joining.spec, False)
    assert from_packet(to_packet(loaded)) == loaded
    assert (X.ring_dtype, Y.ring_dtype, TensorSpec("z", "int8", ()).ring_dtype) == ("bytes", "bytes", "int8")
