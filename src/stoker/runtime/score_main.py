"""`python -m stoker.runtime.score_main`: a model that says what it makes of texts, in a process of its own.

A ScoreJob comes first, then a Text a line; a Loaded goes out, then a Scored each. It ends with its input, with control,
at its time, and first when the machine has no memory left.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from stoker.confine.walls import TMP_BYTES, Walls, confine
from stoker.protocol.work import limit_this_process
from stoker.runtime.engines import registry
from stoker.runtime.engines.cores import usable_cores
from stoker.runtime.engines.llamacpp_load import thread_count
from stoker.runtime.engines.llamacpp_score import Scorer
from stoker.runtime.verify import verify
from stoker.types.errors import StokerError, Unsupported
from stoker.types.likeness import Loaded, Scored, ScoreJob, Text
from stoker.types.work import Problem, Step

ENGINE: Final = "llamacpp"


def main() -> None:
    """Answer until the input ends."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the engine prints is no line of the answer

    def tell(value: Loaded | Scored | Step | Problem) -> None:
        answer.write(msgspec.json.encode(value) + b"\n")
        answer.flush()

    try:
        job = msgspec.json.decode(sys.stdin.buffer.readline(), type=ScoreJob)
        limit_this_process(seconds=job.seconds, memory_bytes=job.memory_bytes)
        confine(Walls(read=(job.model_dir,), tmp_bytes=TMP_BYTES))
        start_s = time.perf_counter()
        scorer = _loaded(job)
        tell(Loaded(f"{ENGINE} {registry.version(ENGINE)}", round(time.perf_counter() - start_s, 3)))
        for line in sys.stdin.buffer:
            tell(scorer.score(msgspec.json.decode(line, type=Text).text))
    except StokerError as problem:
        tell(Problem(problem.code, problem.message))
    except MemoryError:
        tell(Problem("unavailable", f"it takes more than the {job.memory_bytes} bytes of memory that it may"))
    except Exception as bug:  # the boundary to the engine: control hears of it and goes on
        tell(Problem("engine_failed", f"{type(bug).__name__}: {bug}"))
    sys.stderr.flush()
    os._exit(0)  # the engine keeps native threads that a shutdown would tear down under their feet


def _loaded(job: ScoreJob) -> Scorer:
    manifest = job.manifest
    if manifest.format != "gguf":
        raise Unsupported(f"what a model of the format {manifest.format} says of texts cannot be asked; a GGUF can")
    verify(Path(job.model_dir), manifest, lambda _stage, _fraction: None)
    return Scorer(Path(job.model_dir) / manifest.entry, thread_count(None, job.cores, usable_cores()))


if __name__ == "__main__":
    main()
