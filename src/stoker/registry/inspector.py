"""Run the inspection process and take its answer; whatever it does, this process goes on.

One call is one short-lived process. Callers bound how many run at once.
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from stoker.registry.inspection import Inspection, InspectionJob, InspectionReply
from stoker.types.errors import RefusedArtifact, StokerError, Unavailable, all_codes
from stoker.types.units import format_bytes

# onnxruntime, scikit-learn and their libraries map about 1.5 GiB without a model.
MEMORY_BYTES_BASE = 4 * 2**30
MEMORY_PER_FILE_BYTE = 3
SECONDS_BASE = 60.0
SECONDS_PER_GIB = 20.0
STDERR_BYTES_MAX = 4_000

_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")
# One thread each: linear algebra libraries map memory per core, which the memory limit would count.
_ADDED_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def limits(size_bytes: int) -> tuple[float, int]:
    """Return (seconds, memory in bytes) that inspecting a version of `size_bytes` may take."""
    return SECONDS_BASE + SECONDS_PER_GIB * size_bytes / 2**30, MEMORY_BYTES_BASE + MEMORY_PER_FILE_BYTE * size_bytes


def inspect(job: InspectionJob, scratch: Path) -> Inspection:
    """Return what the model says about itself; blocks. `scratch` is a private folder for the process' output.

    Raises:
        RefusedArtifact: something in it is hostile or damaged, or reading it crashed, hung or ate memory.
        Unsupported: a package that reads this format is not installed.
    """
    out, errors, asked = scratch / "reply.json", scratch / "stderr.txt", scratch / "job.json"
    asked.write_bytes(msgspec.json.encode(job))
    with asked.open("rb") as stdin, out.open("wb") as stdout, errors.open("wb") as stderr:
        # Output goes to files, not pipes, so that the limit on written bytes holds for it too.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stoker.registry.inspect_main"],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=_environment(),
            cwd="/",
            start_new_session=True,
        )
        try:
            _wait(process, job.seconds + 5)
        finally:
            _end(process)
    return _taken(job, process.returncode, out, errors)


def _environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | _ADDED_VARIABLES


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Return when it has ended, or after so long. `Popen.wait` with a limit would look every 50 ms."""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(ended)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _taken(job: InspectionJob, code: int, out: Path, errors: Path) -> Inspection:
    if code in (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL):
        raise RefusedArtifact(f"reading {job.entry or 'the files'} took longer than {job.seconds:.0f} s or was killed")
    if code < 0:
        name = signal.Signals(-code).name
        raise RefusedArtifact(f"reading {job.entry or 'the files'} crashed its parser ({name}): the file is damaged")
    try:
        reply = msgspec.json.decode(out.read_bytes(), type=InspectionReply)
    except msgspec.DecodeError as error:
        with errors.open("rb") as file:
            tail = file.read()[-STDERR_BYTES_MAX:].decode("utf-8", "replace").strip()
        if "MemoryError" in tail or "bad_alloc" in tail:
            raise RefusedArtifact(f"reading it takes more than {format_bytes(job.memory_bytes)} of memory") from error
        raise Unavailable(f"the inspection process failed with exit code {code}: {tail}") from error
    if reply.inspection is None:
        kind: type[StokerError] = all_codes().get(reply.code, RefusedArtifact)
        raise kind(reply.message)
    return reply.inspection
