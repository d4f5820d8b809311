"""The least that can run an ONNX model: one process, ONNX Runtime, one prediction. What a replica takes above is ours.

python -m bench.baselines.bare_engine model.onnx
"""

import json
import signal
import sys

import numpy as np
import onnxruntime


def main(path: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    session.run(None, {session.get_inputs()[0].name: np.zeros((1, 64), dtype=np.float32)})
    print(json.dumps({"port": 0}), flush=True)
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
