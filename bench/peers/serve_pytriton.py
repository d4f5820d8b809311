"""PyTriton with the model. `python -m bench.peers.serve_pytriton PORT INSTANCES`: callables behind one batcher."""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from bench.peers.digits import Digits

TYPES = {"INT64": np.int64, "FP32": np.float32}


class Instance:
    def __init__(self) -> None:
        self.digits = Digits()

    @batch
    def __call__(self, **inputs: np.ndarray) -> list[np.ndarray]:
        return [result.reshape(len(result), -1) for result in self.digits.run(inputs[self.digits.input])]


if __name__ == "__main__":
    port, instances = (int(argument) for argument in sys.argv[1:])
    one = Instance()
    settings = TritonConfig(
        http_address="127.0.0.1", http_port=port, allow_grpc=False, allow_metrics=False, exit_on_error=True
    )
    with Triton(config=settings) as triton:
        triton.bind(
            model_name="digits",
            infer_func=[one, *(Instance() for _ in range(instances - 1))],
            inputs=[Tensor(name=one.digits.input, dtype=np.float32, shape=(64,))],
            outputs=[Tensor(name=name, dtype=TYPES[datatype], shape=(-1,)) for name, datatype in one.digits.outputs],
            config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
        )
        triton.serve()
