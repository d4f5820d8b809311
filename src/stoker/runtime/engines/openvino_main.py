"""`python -m stoker.runtime.engines.openvino_main FD`: the process that OpenVINO's pipeline has to itself.

The pipeline's `step` holds Python's lock, so the replica beside it could not even answer a ping. It speaks with the
replica over the socket FD and ends with it: when the socket closes, and when the replica dies (the kernel sees to it).
"""

import ctypes
import os
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from stoker.runtime.engines.openvino_memory import plan_pool, read_shape
from stoker.runtime.engines.openvino_pipeline import Pipeline
from stoker.runtime.engines.openvino_trial import last_words
from stoker.runtime.engines.openvino_wire import Add, Cancel, Failed, Piece, Setup, Stage, Step, ToChild, Wire
from stoker.types.errors import InvalidInput, RefusedArtifact, StokerError, Unsupported

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_FAILED = 3


def main() -> NoReturn:
    """Serve until the socket closes."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The group is the replica's: who asks it to stop asks the whole group, and it is the replica that drains.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wire = Wire(socket.socket(fileno=int(sys.argv[1])), ToChild)
    try:
        setup = wire.receive()
        assert isinstance(setup, Setup)
        pipeline = _load(setup, wire)
        _serve(pipeline, wire)
    except (EOFError, OSError):
        _end(0)
    except StokerError as refused:
        wire.send(Failed(_kind(refused), refused.message))
        _end(EXIT_FAILED)
    except Exception as broken:  # the boundary to the library: after this nothing of the pipeline can be trusted
        sys.stderr.write(f"the pipeline broke: {last_words(broken)}\n")
        _end(EXIT_FAILED)


def _load(setup: Setup, wire: Wire) -> Pipeline:
    def stage(name: str, fraction: float) -> None:
        wire.send(Stage(name, fraction))

    path = Path(setup.path)
    shape = read_shape(path)
    pool = plan_pool(shape, context=setup.context, slots=setup.slots, memory_bytes=setup.memory_bytes)
    try:
        pipeline = Pipeline(setup, pool, stage)
    except RuntimeError as failed:
        raise RefusedArtifact(f"OpenVINO cannot load {path.name}: {last_words(failed)}") from failed
    stage("warm-up", 0.9)
    pipeline.warm_up()
    wire.send(pipeline.ready)
    return pipeline


def _serve(pipeline: Pipeline, wire: Wire) -> NoReturn:
    while True:
        messages = [wire.receive()] if pipeline.is_idle else wire.waiting()
        refused: list[Piece] = []
        for message in messages:
            match message:
                case Add():
                    refused += pipeline.add(message)
                case Cancel():
                    refused += pipeline.cancel(message.choices)
        if refused:
            wire.send(Step(refused, pipeline.kv_used_ratio))
        if not pipeline.is_idle:
            step = pipeline.step()
            if step.pieces:
                wire.send(step)


def _kind(problem: StokerError) -> str:
    match problem:
        case InvalidInput():
            return "input"
        case Unsupported():
            return "unsupported"
        case RefusedArtifact():
            return "artifact"
        case _:
            return "engine"


def _end(code: int) -> NoReturn:
    """Leave at once: the engine's native threads must not outlive what they use."""
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
