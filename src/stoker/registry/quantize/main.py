"""`python -m stoker.registry.quantize.main`: one QuantizeJob on stdin, lines on stdout, then gone.

It has limits on memory and time, dies with control, gives way to replicas for the processor, and goes
first when the machine has no memory left.
"""

import ctypes
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from stoker.registry.quantize import gguf, onnx
from stoker.types.errors import StokerError
from stoker.types.quantization import POSSIBLE, QuantizeJob, Written
from stoker.types.work import Problem, Step

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
NICE: Final = 10
TELL_EVERY_S: Final = 0.2


def main() -> int:
    """Do the job on stdin."""
    # What tools print is no line of the answer.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=QuantizeJob)
    _limit(job)
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


def _limit(job: QuantizeJob) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.nice(NICE)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, job.seconds)
    for what, most in ((resource.RLIMIT_AS, job.memory_bytes), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))


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
