"""MLServer's model; runs inside MLServer's environment."""

from given import predictor
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class CountedModel(MLModel):
    """One model, called with whole batches."""

    async def load(self) -> bool:
        """Load the model of this name."""
        self._predictor = predictor(self.name)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run a batch that MLServer has merged into one request."""
        arrays = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
        batch = {spec.name: arrays[spec.name].astype(spec.dtype, copy=False) for spec in self._predictor.inputs}
        answers = zip(self._predictor.outputs, self._predictor.run(batch), strict=True)
        outputs = [NumpyCodec.encode_output(spec.name, array) for spec, array in answers]
        return InferenceResponse(model_name=self.name, outputs=outputs)
