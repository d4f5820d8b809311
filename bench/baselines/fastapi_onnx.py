"""What a user would write: FastAPI and ONNX Runtime in one worker or in several, tuned.

The body and the answer are the platform's (Open Inference Protocol), so both do the same work. Tuned means: msgspec
decodes the body (not pydantic), the model runs in the event loop (a hop to a thread costs more than this model), ONNX
Runtime has one thread (more only spin at one row), and uvicorn runs on uvloop and httptools.

    python -m bench.baselines.fastapi_onnx model.onnx [WORKERS]
"""

import os
import sys

import msgspec
import numpy as np
import onnxruntime
from fastapi import FastAPI, Request, Response

from bench.baselines.listen import listen, listen_in_workers

MODEL_VARIABLE = "BENCH_MODEL"  # how a worker learns of the model


class Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class InferRequest(msgspec.Struct):
    inputs: list[Tensor]
    id: str | None = None


DATATYPES = {"tensor(int64)": "INT64", "tensor(float)": "FP32"}


def build(path: str) -> FastAPI:
    """Return the application that serves the ONNX model at `path` as `digits`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [(output.name, DATATYPES[output.type]) for output in session.get_outputs()]
    names = [name for name, _ in outputs]
    decode = msgspec.json.Decoder(InferRequest).decode
    encode = msgspec.json.Encoder().encode
    app = FastAPI()

    @app.post("/v2/models/digits/infer")
    async def infer(request: Request) -> Response:
        wanted = decode(await request.body())
        tensor = wanted.inputs[0]
        array = np.array(tensor.data, dtype=np.float32).reshape(tensor.shape)
        results = session.run(names, {tensor.name: array})
        answer = {
            "model_name": "digits",
            "model_version": "1",
            "id": wanted.id,
            "outputs": [
                {"name": name, "datatype": datatype, "shape": result.shape, "data": result.ravel().tolist()}
                for (name, datatype), result in zip(outputs, results, strict=True)
            ],
        }
        return Response(encode(answer), media_type="application/json")

    return app


def build_in_worker() -> FastAPI:
    """Return the application of a worker that uvicorn started."""
    return build(os.environ[MODEL_VARIABLE])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.environ[MODEL_VARIABLE] = sys.argv[1]
        listen_in_workers("bench.baselines.fastapi_onnx:build_in_worker", int(sys.argv[2]))
    else:
        listen(build(sys.argv[1]))
