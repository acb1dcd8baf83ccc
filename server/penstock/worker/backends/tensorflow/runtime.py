"""TensorFlow itself: how it is imported, and its threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from penstock.core.errors import ModelLoadError

__all__ = ["NOT_INSTALLED", "Opened", "start_tensorflow"]

NOT_INSTALLED = "TensorFlow models need tensorflow: pip install 'penstock[tensorflow]'"

logger = logging.getLogger("penstock.worker.tensorflow")


class Opened(NamedTuple):
    """A model that has been opened, whatever its format.

    `function` is a tf.ConcreteFunction that takes one tensor per input by position and returns a list of one per
    output. `inputs` and `outputs` are tf.TensorSpec by their names, both in that order; an output's shape need not be
    known. `keeps` is what must live as long: a function holds its variables weakly.
    """

    function: Any
    keeps: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]


def start_tensorflow(threads: int) -> None:
    """Import TensorFlow and set its threads, once for the process; ModelLoadError when it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors; read while it is imported
    # Whatever a user's keras.json says: a model's functions are TensorFlow's here.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        with _quiet():
            import tensorflow
    except ImportError as error:
        raise ModelLoadError(NOT_INSTALLED) from error
    tensorflow.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:  # another model of the group has run: threads are the process's, and the first one's
        logger.debug("the threads of TensorFlow were set by another model of this worker")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what is written to standard error for the debug log: no setting stops the note that oneDNN is in use.

    TF_ENABLE_ONEDNN_OPTS=0 would, but it stops oneDNN, too.
    """
    with os.fdopen(os.memfd_create("tensorflow-import"), "w+b") as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            logger.debug("TensorFlow said while it was imported: %s", kept.read().decode("utf-8", "replace"))
