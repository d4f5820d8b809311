"""The inspection process: `python -m stoker.registry.inspect_main`, one job on stdin, one reply on stdout, then gone.

Models are hostile until read. A parser that crashes, loops or eats memory takes this process down and nothing else:
it has limits on memory, time, processor time and written bytes, no core file, and reads nothing but the model.
"""

import resource
import signal
import sys
from pathlib import Path

import msgspec

from stoker.confine.walls import TMP_BYTES, Walls, confine
from stoker.registry.inspection import Inspection, InspectionJob, InspectionReply
from stoker.registry.scan import scan_folder
from stoker.registry.signatures import inspect_model
from stoker.types.errors import StokerError

REPLY_BYTES_MAX = 4 * 2**20


def main() -> int:
    """Do the job on stdin; the reply says what was found or refused."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=InspectionJob)
    _limit(job)
    # Who looks at their own files before a push has links to them there.
    files = {str((Path(job.folder) / path).resolve()) for path in job.paths}
    confine(Walls(read=(job.folder, *files), tmp_bytes=TMP_BYTES))
    sys.stdout.buffer.write(msgspec.json.encode(_reply(job)))
    sys.stdout.buffer.flush()
    return 0


def _limit(job: InspectionJob) -> None:
    # The default action of SIGALRM ends the process even inside C++ code, and when its parent is long dead.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, job.seconds)
    seconds = int(job.seconds) + 1
    for what, most in (
        (resource.RLIMIT_AS, job.memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, REPLY_BYTES_MAX),
    ):
        _, hard = resource.getrlimit(what)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (limit, limit))


def _reply(job: InspectionJob) -> InspectionReply:
    try:
        scan_folder(Path(job.folder), job.paths, job.format, job.entry)
        if job.scan_only:
            return InspectionReply(inspection=Inspection())
        return InspectionReply(inspection=inspect_model(job))
    except StokerError as error:
        return InspectionReply(code=error.code, message=error.message)
    except MemoryError:
        return InspectionReply(code="refused_artifact", message=f"reading it takes more than {job.memory_bytes} bytes")
    except Exception as error:
        # The process boundary: whatever a parser raises about hostile bytes means that they are refused.
        return InspectionReply(code="refused_artifact", message=f"it cannot be read: {type(error).__name__}: {error}")


if __name__ == "__main__":
    sys.exit(main())
