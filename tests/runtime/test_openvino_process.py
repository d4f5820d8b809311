"""OpenVINO behind a replica process: what a client gets, and that the child never outlives the replica."""

import signal
import time
from pathlib import Path

import msgspec
import psutil

from tests.engines_llm.support import packaged_model, spec
from tests.runtime.rig import Process, ask, drive, running


def child_of(process: Process) -> psutil.Process:
    return next(
        child
        for child in psutil.Process(process.popen.pid).children(recursive=True)
        if "openvino_main" in " ".join(child.cmdline())
    )


def is_gone(child: psutil.Process) -> bool:
    """A process nobody waits for yet is gone too."""
    return not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_it_answers_through_a_replica_and_dies_with_it(tmp_path: Path) -> None:
    wanted = spec("openvino", gguf=packaged_model(), context=256, slots=1)
    body = msgspec.json.encode({"model": "smol", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4})

    async def answered(process: Process) -> None:
        link = await process.ready()
        end, _ = await ask(link, "chat", body)
        assert end.usage.output_tokens >= 1

    with running(wanted, tmp_path) as process:
        drive(process, answered)
        child = child_of(process)
        process.signal(signal.SIGKILL)
        limit_s = time.monotonic() + 60
        while not is_gone(child):
            assert time.monotonic() < limit_s
            time.sleep(0.02)
