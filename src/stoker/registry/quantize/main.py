"""`python -m stoker.registry.quantize.main`: one QuantizeJob on stdin, lines on stdout, then gone.

It has limits on memory and time, dies with control, gives way to replicas for the processor, and goes
first when the machine has no memory left.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from stoker.confine.walls import TMP_BYTES, Walls, confine
from stoker.protocol.work import limit_this_process
from stoker.registry.quantize import gguf, onnx
from stoker.types.errors import StokerError
from stoker.types.quantization import POSSIBLE, QuantizeJob, Written
from stoker.types.work import Problem, Step

TELL_EVERY_S: Final = 0.2


def main() -> int:
    """Do the job on stdin."""
    # What tools print is no line of the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=QuantizeJob)
    limit_this_process(seconds=job.seconds, memory_bytes=job.memory_bytes)
    confine(Walls(write=(str(Path(job.target).parent),), tmp_bytes=TMP_BYTES))
    last_s = 0.0

    def tell(value: Step | Problem | Written) -> None:
        answer.write(msgspec.json.encode(value) + b"\n")
        answer.flush()

    def on_progress(done: int, total: int) -> None:
        nonlocal last_s
        if time.monotonic() - last_s >= TELL_EVERY_S or done == total:
            last_s = time.monotonic()
            tell(Step("quantizing", done, total))

    tell(_done(job, on_progress))
    return 0


def _done(job: QuantizeJob, on_progress: onnx.OnProgress) -> Written | Problem:
    try:
        if job.to in POSSIBLE["gguf"]:
            return gguf.quantize(job, on_progress)
        folder = Path(job.target).parent
        return onnx.quantize(job, on_progress, lambda size: gguf.check_room(folder, size, job.copies))
    except StokerError as error:
        return Problem(error.code, error.message)
    except MemoryError:
        return Problem("unavailable", f"it takes more than the {job.memory_bytes} bytes of memory that it may")
    except OSError as refused:
        return Problem("unavailable", f"it cannot be written: {refused.strerror or refused}")
    except Exception as error:
        # The process boundary: whatever a tool raises about a model's bytes means that they are refused.
        return Problem("refused_artifact", f"it cannot be quantized: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
