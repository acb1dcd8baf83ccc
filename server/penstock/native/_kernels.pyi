"""Element types, lanes, and the kernels that tests compare with NumPy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

def dtypes() -> list[tuple[str, int]]:
    """Names and sizes in bytes of all element types, in the order of their numbers."""

def lanes() -> list[str]:
    """Lanes that this processor runs, the slowest first."""

def lane() -> str:
    """The lane of this process: PENSTOCK_LANE, or the fastest. ValueError when PENSTOCK_LANE names none."""

def round_to_half(value: float) -> int:
    """Bits of the float16 nearest to value, ties to even."""

def widen(halves: NDArray[np.uint16], lane: str = "") -> NDArray[np.float32]:
    """Float32 values of float16 bits (uint16, shape (n,)). ValueError for an unknown lane."""

def gather(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Copy rows of bytes (uint8, shape (n,) each) into one batch, shape (rows, n). ValueError when lengths differ."""

def gather_widened(rows: Sequence[NDArray[np.uint8]], lane: str = "") -> NDArray[np.float32]:
    """Gather rows of float16 bytes (uint8, shape (2n,) each) as float32, shape (rows, n)."""

def hash_text(text: str) -> int:
    """What a hashed string is in a record: MurmurHash3, 32 bits, of UTF-8."""

def resize(
    pixels: NDArray[np.uint8] | memoryview,
    result: NDArray[np.uint8] | memoryview,
    filter: str,
    box: tuple[float, float, float, float],
    lane: str = "",
) -> None:
    """
    Resize the part (left, top, right, bottom) of an image (uint8, shape (height, width, channels)) into result.
    ValueError for sizes, channels, a filter or a box that cannot be.
    """

def normalize(
    pixels: NDArray[np.uint8],
    result: NDArray[np.float32],
    scale: Sequence[float],
    offset: Sequence[float],
    planes: bool,
    lane: str = "",
) -> None:
    """
    pixel * scale + offset by channel, of images (uint8, shape (n, height, width, channels)): float32 of shape (n,
    channels, height, width) with planes, else as the images have it. ValueError when a shape does not fit.
    """

class Program:
    """
    Feature steps over the rows of a batch (kernels/steps.hpp). Used by one thread at a time.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, int]],
        steps: Sequence[tuple[str, int, int, float, float, Sequence[float]]],
        matrices: Sequence[tuple[str, int, Sequence[tuple[int, int, int]]]],
        lane: str = "",
    ) -> None:
        """
        sources: (dtype, columns); steps: (kind, x, y, a, b, table); matrices: (dtype, columns, [(x, at, width)]).
        ValueError when they do not fit each other.
        """

    def run(
        self, arrays: Sequence[NDArray[Any]], results: Sequence[NDArray[Any]]
    ) -> tuple[int, int, int, float] | None:
        """
        Compute the matrices of a batch: one array of shape (rows, ...) for each source, one to fill for each matrix.
        Returns the first row with a number that the integers of a matrix do not hold, as (row, matrix, column, number),
        if there is one. ValueError when a size does not fit.
        """

class Answers:
    """
    What people get of a model's outputs (kernels/answers.hpp). Used by one thread at a time.
    """

    def __init__(self, lane: str = "") -> None: ...
    def add_classes(
        self,
        source: int,
        dtype: str,
        elements: int,
        *,
        scores: str,
        exclusive: bool = True,
        temperature: float = 1.0,
        lines: Sequence[tuple[float, float]] = [],
        curves: Sequence[tuple[Sequence[float], Sequence[float]]] = [],
        confidence: str = "maximum",
        thresholds: Sequence[float] = [],
        cuts: Sequence[float] = [],
        set: str = "",
        quantile: float = 1.0,
        set_width: int = 0,
        top: int = 0,
        results: Sequence[tuple[str, int, Sequence[str]]],
    ) -> None:
        """
        Classify with the array of this number, so many elements a row.

        results: (what, number of the array, the strings of its codes, the last for none). ValueError for what makes no
        sense.
        """

    def add_numbers(
        self,
        source: int,
        dtype: str,
        elements: int,
        *,
        first: int,
        count: int,
        steps: Sequence[tuple[str, float, float]] = [],
        bounds: tuple[float, float] = ...,
        decimals: int = -1,
        quantile: float = 0.0,
        by: tuple[int, str, int] | None = None,
        to: str,
        results: Sequence[tuple[str, int, Sequence[str]]],
    ) -> None:
        """
        Answer numbers: `count` elements from `first` on.

        steps: (kind, a, b); by: number, dtype and elements of the array that scales the interval. ValueError for what
        makes no sense.
        """

    def run(self, arrays: Sequence[NDArray[Any]], results: Sequence[NDArray[Any]]) -> int:
        """
        Fill `results` from a batch of the model's arrays.

        Returns the number of an array with a NaN that nothing can be said about, or -1. ValueError when a size does not
        fit.
        """

class Words:
    """
    Counts of the words of texts (kernels/words.hpp). Used by one thread at a time.
    """

    def __init__(
        self,
        vocabulary: int | Sequence[str],
        *,
        weights: Sequence[float] = [],
        stop_words: Sequence[str] = [],
        ngram_min: int = 1,
        ngram_max: int = 1,
        lower: bool = True,
        binary: bool = False,
        sublinear: bool = False,
        signs: bool = False,
        norm: str = "l2",
    ) -> None:
        """
        vocabulary: the words, or how many buckets their hashes fall into. ValueError for what cannot be.
        """

    def run(self, texts: list[str], result: NDArray[np.floating], at: int, split: Callable[[str], list[str]]) -> None:
        """
        Write the columns of each text into result, shape (texts, columns), from column `at` on. `split` gives the
        words of a text that is not ASCII. ValueError when the sizes do not fit.
        """

class DeviceWork:
    """
    One launch of a kernel of the CUDA lane (kernels/device_work.hpp).
    """

    @property
    def kernel(self) -> str:
        """Its name in the module of kernels."""
    @property
    def parameters(self) -> bytes:
        """The one parameter of the kernel, by value."""
    @property
    def grid(self) -> tuple[int, int, int]:
        """Blocks, threads of a block, bytes of shared memory of a block."""
    def run(self) -> None:
        """Run it here: its addresses are of this process. Without the GIL."""

def gather_work(
    head: int, rows: tuple[int, int], to: int, row_bytes: int, rows_max: int, blocks_max: int = 0
) -> DeviceWork:
    """Rows side by side. rows: the addresses of a base and of each row's offset from it."""

def signal_work(head: int, flag: int) -> DeviceWork:
    """The end of a batch: its number into the flag."""

class DeviceSteps:
    """
    A program of feature steps for a device; arguments as of Program.
    """

    def __init__(
        self,
        sources: Sequence[tuple[str, int]],
        steps: Sequence[tuple[str, int, int, float, float, Sequence[float]]],
        matrices: Sequence[tuple[str, int, Sequence[tuple[int, int, int]]]],
    ) -> None:
        """ValueError as Program, and for a program that no block has room for."""
    @property
    def constants(self) -> bytes:
        """What it needs in the device's memory."""
    def work(
        self, constants: int, head: int, sources: Sequence[tuple[int, int]], results: Sequence[int], rows_max: int
    ) -> DeviceWork:
        """A launch: addresses of the constants, the batch's head, each source's rows, and each matrix."""

class DeviceImages:
    """
    Images resized and normalised by a device in one pass.
    """

    def __init__(
        self,
        size: tuple[int, int],
        result: tuple[int, int],
        dtype: str,
        planes: bool,
        scale: Sequence[float],
        offset: Sequence[float],
        filter: str,
        box: tuple[float, float, float, float],
    ) -> None:
        """Sizes: (height, width); dtype: uint8, float16, bfloat16 or float32. ValueError for what cannot be."""
    @property
    def constants(self) -> bytes:
        """What it needs in the device's memory."""
    def work(
        self, constants: int, head: int, images: tuple[int, int], to: int, images_max: int, blocks_max: int = 0
    ) -> DeviceWork:
        """A launch: addresses of the constants, the batch's head, the images' rows, and the result."""

BUS_BLOCKS: int

def read_flag(address: int) -> int:
    """The flag's value, and with it what was written before it."""

def write_head(address: int, sequence: int, rows: int) -> None:
    """Say what the next batch is."""

def read_unfit(address: int) -> bool:
    """Whether a row of the batch that is done had a number which an integer of a matrix does not hold."""
