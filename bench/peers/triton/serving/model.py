"""The model of Triton's Python backend; runs in the backend's stub process, which provides the utilities imported."""

import numpy as np
import triton_python_backend_utils as pb_utils
from given import predictor


class TritonPythonModel:
    """A `Predictor` on the rows of all the requests that Triton hands over together."""

    def initialize(self, args):
        """Load the model."""
        self._predictor = predictor(args["model_name"])
        self._names = [tensor.name for tensor in self._predictor.outputs]

    def execute(self, requests):
        """Run one batch; Triton sends one response a request."""
        inputs = [[tensor.as_numpy() for tensor in request.inputs()] for request in requests]
        sizes = [len(arrays[0]) for arrays in inputs]
        names = [tensor.name() for tensor in requests[0].inputs()]
        outputs = self._predictor.run(dict(zip(names, map(np.concatenate, zip(*inputs, strict=True)), strict=True)))
        ends = np.cumsum(sizes)
        return [self._response(outputs, end - size, end) for size, end in zip(sizes, ends, strict=True)]

    def _response(self, outputs, start, end):
        tensors = [pb_utils.Tensor(name, array[start:end]) for name, array in zip(self._names, outputs, strict=True)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
