"""The process that evaluates policies: one job from standard input, one line of JSON a task, then it ends.

CEL as the package runs it has no bound: three nested loops over a thousand files would run for minutes and hold
Python's lock all the while. Here each task has an alarm on its processor time that nothing can catch, and the process a
limit on memory; whoever reads the lines knows by their number which task ended it.

python -m stoker.control.judge_main
"""

import resource
import signal
import sys
from typing import Final

import msgspec

from stoker.confine.walls import TMP_BYTES, Walls, confine
from stoker.core import policy
from stoker.protocol import policies
from stoker.types.policies import Document
from stoker.types.resources import Policy

POLICY_CPU_S: Final = 1.0  # all rules of a policy over one change; the starter set takes 0.2 ms over 100 files
MEMORY_BYTES: Final = 2**30  # of address space, Python's own 0.2 GiB included


class Task(msgspec.Struct, frozen=True):
    """A policy over a document, by their places in the job; no document: its expressions are to be checked."""

    policy: int
    document: int | None = None


class Job(msgspec.Struct, frozen=True):
    """What one process is asked."""

    policies: tuple[Policy, ...]
    documents: tuple[Document, ...]
    tasks: tuple[Task, ...]


def main() -> int:
    """Answer the job of standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    confine(Walls(tmp_bytes=TMP_BYTES))
    known: dict[int, policy.Compiled] = {}
    for task in job.tasks:
        signal.setitimer(signal.ITIMER_PROF, POLICY_CPU_S)
        line = _answer(job, task, known)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _answer(job: Job, task: Task, known: dict[int, policy.Compiled]) -> bytes:
    asked = job.policies[task.policy]
    if task.document is None:
        return msgspec.json.encode(tuple(policies.flaws(asked.spec)))
    if task.policy not in known:
        known[task.policy] = policies.compiled(asked)
    return msgspec.json.encode(tuple(policy.of_policy(known[task.policy], job.documents[task.document])))


if __name__ == "__main__":
    sys.exit(main())
