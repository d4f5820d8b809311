"""The model as every peer's own server runs it: ONNX Runtime, one thread, one body of the Open Inference Protocol.

Runs in the peers' environments: imports nothing of stoker.
"""

import os
from typing import Any

import numpy as np
import onnxruntime

MODEL_VARIABLE = "BENCH_MODEL"
DATATYPES = {"tensor(int64)": "INT64", "tensor(float)": "FP32"}


class Digits:
    """The model whose path is in the environment."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            os.environ[MODEL_VARIABLE], options, providers=["CPUExecutionProvider"]
        )
        self.input = self._session.get_inputs()[0].name
        self.outputs = [(output.name, DATATYPES[output.type]) for output in self._session.get_outputs()]
        self._names = [name for name, _ in self.outputs]

    def run(self, rows: Any) -> list[Any]:
        """Return the outputs for `rows`: float32 [rows, 64]."""
        results: list[Any] = self._session.run(self._names, {self.input: rows})
        return results

    def answer(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the answer to the tensors of a request, ready for JSON."""
        tensor = inputs[0]
        results = self.run(np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"]))
        return {
            "model_name": "digits",
            "outputs": [
                {"name": name, "datatype": datatype, "shape": list(result.shape), "data": result.ravel().tolist()}
                for (name, datatype), result in zip(self.outputs, results, strict=True)
            ],
        }
