"""MLServer with the model: the runtime that model-settings.json names."""

import numpy as np
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from bench.peers.digits import Digits


class Runtime(MLModel):
    async def load(self) -> bool:
        self.digits = Digits()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensor = payload.inputs[0]
        data = tensor.data.root if hasattr(tensor.data, "root") else tensor.data
        results = self.digits.run(np.array(data, dtype=np.float32).reshape(tensor.shape))
        return InferenceResponse(
            model_name="digits",
            outputs=[
                ResponseOutput(name=name, datatype=datatype, shape=list(result.shape), data=result.ravel().tolist())
                for (name, datatype), result in zip(self.digits.outputs, results, strict=True)
            ],
        )
