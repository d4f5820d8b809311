"""KServe's Python server with the model. `python -m bench.peers.serve_kserve --http_port P --workers N …`."""

from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer

from bench.peers.digits import Digits


class Runtime(Model):
    def load(self) -> bool:
        self.digits = Digits()
        self.ready = True
        return True

    def __reduce__(self) -> Any:
        """Return how a worker process makes its own: a session of ONNX Runtime cannot be sent."""
        return loaded, ()

    async def predict(self, payload: InferRequest, headers: Any = None, response_headers: Any = None) -> InferResponse:
        tensor = payload.inputs[0]
        results = self.digits.run(np.array(tensor.data, dtype=np.float32).reshape(tensor.shape))
        outputs = [
            InferOutput(name=name, datatype=datatype, shape=list(result.shape), data=result.ravel().tolist())
            for (name, datatype), result in zip(self.digits.outputs, results, strict=True)
        ]
        return InferResponse(payload.id or "", "digits", outputs)


def loaded() -> Runtime:
    """Return the model, ready."""
    model = Runtime("digits")
    model.load()
    return model


if __name__ == "__main__":
    ModelServer().start([loaded()])
