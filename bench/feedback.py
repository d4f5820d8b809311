"""What it costs a replica to keep what its model said, for labels that come later (runtime/predictions.py).

python -m bench.feedback

Prints the microseconds of processor time of a row, for engine calls of one row and of more, best of many: holding what
came out, and reading it GATHERED_ROWS at a time. The model gives a class and ten probabilities.
"""

import time

import numpy as np

from stoker.runtime.predictions import Predictions, Rows
from stoker.types.feedback import Demand, Wish
from stoker.types.models import Signature, TensorSpec

ROWS = (1, 8, 64)
CALLS, TURNS = 512, 20


def row_us(rows: int) -> float:
    """Return the microseconds of a row in calls of `rows`."""
    signature = Signature((), (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 10))))
    outputs = {"label": np.arange(rows) % 10, "p": np.full((rows, 10), 0.1, np.float32)}
    requests = [Rows(f"req-{row}", "eu", 0, row, 1) for row in range(rows)]
    taken_s = []
    for _ in range(TURNS):
        kept = Predictions(signature, batches=True)
        kept.answer(Demand(Wish("classification")))
        began_s = time.thread_time()
        for _ in range(CALLS):
            kept.add(outputs, requests)
        taken_s.append(time.thread_time() - began_s)
    return min(taken_s) / CALLS / rows * 1e6


def main() -> None:
    """Run all."""
    print(f"{'rows a call':>11} {'µs a row':>9}")
    for rows in ROWS:
        print(f"{rows:11} {row_us(rows):9.2f}")


if __name__ == "__main__":
    main()
