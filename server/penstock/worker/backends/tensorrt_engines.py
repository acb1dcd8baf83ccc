"""Engines of TensorRT: built from ONNX files, kept, and given other weights.

`tensorrt` is handed in by who imports it.
"""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import Any

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions
from penstock.worker.backends.onnx_digests import digests_of
from penstock.worker.backends.private_cache import cache_folder

__all__ = ["Engines", "read"]

logger = logging.getLogger("penstock.worker.tensorrt")

_FLAGS = {"float16": "FP16", "bfloat16": "BF16"}
REFIT = "refit"


def read(trt: Any, log: Any, data: bytes, whose: Path) -> Any:
    """Return the engine in what a file holds; ModelLoadError when this TensorRT cannot load it."""
    engine = trt.Runtime(log).deserialize_cuda_engine(data)
    if engine is None:
        raise ModelLoadError(
            f"TensorRT {trt.__version__} cannot load {whose}: engines run only with the release and on the kind of "
            "GPU that they were built with; serve the ONNX file instead"
        )
    return engine


class Engines:
    """Those of one release of TensorRT on one kind of GPU, in a folder of this user's.

    An engine that can be refitted is kept by its network's graph, whatever its weights are, any other by both. What
    kernels were timed at is kept, too, so that a network like one before is built in a fraction of the time.
    """

    def __init__(self, trt: Any, log: Any, gpu: str, options: LoadOptions) -> None:
        self._trt = trt
        self._log = log
        self._options = options
        self._folder = cache_folder("tensorrt")
        self._refits = options.convert == REFIT
        asked = [options.precision, options.convert, str(options.rows_max), str(list(options.lengths))]
        self._machine = [trt.__version__, gpu]
        self._asked = [*self._machine, *asked]

    def of(self, file: Path) -> Any:
        """Return the engine for an ONNX file: kept, refitted or built; ModelLoadError when it cannot be built."""
        digests = digests_of(file)
        weights = digests.weights.encode()
        parts = [*self._asked, digests.graph, "" if self._refits else digests.weights]
        kept = self._folder / f"{_digest(parts)}.kept"
        engine = self._kept(kept, weights, file)
        if engine is None:
            built = self._build(file)
            # In one file with whose weights it has: another worker may keep an engine with others at this moment.
            _keep(kept, weights + built)
            engine = read(self._trt, self._log, built, file)
        return engine

    def _kept(self, kept: Path, weights: bytes, file: Path) -> Any:
        """Return an engine that was built before, with this file's weights; None when it must be built."""
        if not kept.is_file():
            return None
        data = kept.read_bytes()
        try:
            engine = read(self._trt, self._log, data[len(weights) :], kept)
        except ModelLoadError as error:
            logger.warning("a kept engine is built anew: %s", error)
            return None
        if data.startswith(weights):
            return engine
        if self._refit(engine, file):
            logger.info("an engine was refitted with the weights of %s", file.name)
            return engine
        logger.warning("the kept engine does not take the weights of %s: it is built anew", file.name)
        return None

    def _refit(self, engine: Any, file: Path) -> bool:
        """Give an engine the weights of a file with the same graph; whether it has them all."""
        refitter = self._trt.Refitter(engine, self._log)
        parser = self._trt.OnnxParserRefitter(refitter, self._log)
        return bool(parser.refit_from_file(str(file)) and refitter.refit_cuda_engine())

    def _build(self, file: Path) -> bytes:
        trt = self._trt
        builder = trt.Builder(self._log)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, self._log)
        if not parser.parse_from_file(str(file)):
            raise ModelLoadError(
                f"TensorRT {trt.__version__} cannot read {file}: {parser.get_error(0).desc()}. Serve it with "
                "backend = 'onnx'"
            )
        config = builder.create_builder_config()
        self._set_flags(config)
        _add_profile(builder, config, network, self._options)
        timings = self._folder / f"{_digest(self._machine)}.timings"
        config.set_timing_cache(
            config.create_timing_cache(timings.read_bytes() if timings.is_file() else b""), ignore_mismatch=False
        )
        logger.info("building an engine for %s, which takes minutes", file.name)
        engine = builder.build_serialized_network(network, config)
        if engine is None:
            raise ModelLoadError(f"TensorRT {trt.__version__} cannot build an engine for {file}: its log says why")
        timed = config.get_timing_cache()
        if timed is not None:
            _keep(timings, bytes(timed.serialize()))
        return bytes(engine)

    def _set_flags(self, config: Any) -> None:
        trt, precision = self._trt, self._options.precision
        if self._refits:
            config.set_flag(trt.BuilderFlag.REFIT)
        if precision == "float32":
            return
        flag = getattr(trt.BuilderFlag, _FLAGS[precision], None)
        if flag is None:
            raise ModelLoadError(
                f"precision = {precision!r}: TensorRT {trt.__version__} computes in what the file says; convert the "
                "file, and leave precision out"
            )
        config.set_flag(flag)


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _keep(file: Path, data: bytes) -> None:
    made = file.with_suffix(f".{os.getpid()}")
    made.write_bytes(data)
    os.replace(made, file)  # whoever reads it meanwhile finds all of it


def _add_profile(builder: Any, config: Any, network: Any, options: LoadOptions) -> None:
    """Let batches have from 1 row to the most, tuned for the most; and rows from the shortest length to the longest."""
    profile = builder.create_optimization_profile()
    lengths = options.lengths or (0,)
    for number in range(network.num_inputs):
        tensor = network.get_input(number)
        bounds = []
        for rows, length in ((1, lengths[0]), (options.rows_max, lengths[-1]), (options.rows_max, lengths[-1])):
            sizes = [rows if place == 0 else length for place in range(len(tensor.shape))]
            shape = [size if declared < 0 else declared for declared, size in zip(tensor.shape, sizes, strict=True)]
            bounds.append(tuple(shape))
        profile.set_shape(tensor.name, *bounds)
    config.add_optimization_profile(profile)
