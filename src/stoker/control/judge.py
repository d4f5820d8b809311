"""Ask policies about changes, and whether they can be asked at all, in a process that may be lost.

A policy that takes too long or too much memory gives no answer, which is a failure of each of its rules; the others are
asked all the same. One call is one short-lived process (0.1 s); callers bound how many run at once.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from stoker.control.judge_main import MEMORY_BYTES, POLICY_CPU_S, Job, Task
from stoker.core import policy
from stoker.protocol import policies as texts
from stoker.types.errors import TooLarge
from stoker.types.policies import Document, Verdict
from stoker.types.resources import Policy
from stoker.types.units import format_bytes

JUDGE_S: Final = 10.0  # wall time for everything that one change asks
JOB_BYTES_MAX: Final = 64 * 2**20  # a document with a thousand files takes 0.1 MiB
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")


def verdicts(policies: Sequence[Policy], documents: Sequence[Document]) -> list[tuple[Verdict, ...]]:
    """Return what the rules say of each document that look at it; blocks. Raises TooLarge."""
    tasks = [
        Task(number, at)
        for at, document in enumerate(documents)
        for number, each in enumerate(policies)
        if policy.looks_at(each, document)
    ]
    found: list[tuple[Verdict, ...]] = [()] * len(documents)
    for task, answer in zip(tasks, _answers(Job(tuple(policies), tuple(documents), tuple(tasks))), strict=True):
        assert task.document is not None
        found[task.document] += _read(policies[task.policy], answer)
    return found


def flaws(policies: Sequence[Policy]) -> list[list[tuple[str, str]]]:
    """Return what is wrong with the expressions of each policy, by field; blocks. Raises TooLarge."""
    tasks = tuple(Task(number) for number in range(len(policies)))
    found = []
    for each, answer in zip(policies, _answers(Job(tuple(policies), (), tasks)), strict=True):
        if isinstance(answer, str):
            found.append([("spec.rules", f"an expression takes too much: {answer}; write it without nested loops")])
            continue
        fields = [field for field, _ in texts.expressions(each.spec)]
        said = msgspec.json.decode(answer, type=list[str])
        found.append([(field, wrong) for field, wrong in zip(fields, said, strict=True) if wrong])
    return found


def _read(asked: Policy, answer: bytes | str) -> tuple[Verdict, ...]:
    if isinstance(answer, bytes):
        return msgspec.json.decode(answer, type=tuple[Verdict, ...])
    return tuple(policy.failed(asked, rule, answer) for rule in asked.spec.rules)


def _answers(job: Job) -> list[bytes | str]:
    """Return the line of each task, or why there is none. A policy that took too much once is not asked again."""
    found: dict[Task, bytes | str] = {}
    left = job.tasks
    until_s = time.monotonic() + JUDGE_S
    while left:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            found |= dict.fromkeys(left, f"it was not reached within {JUDGE_S:g} s")
            break
        lines, why = _ask(msgspec.structs.replace(job, tasks=left), left_s)
        found |= dict(zip(left, lines, strict=False))
        left = left[len(lines) :]
        if left:
            lost = left[0].policy
            found |= {task: why for task in left if task.policy == lost}
            left = tuple(task for task in left if task.policy != lost)
    return [found[task] for task in job.tasks]


def _ask(job: Job, seconds: float) -> tuple[list[bytes], str]:
    """Return the lines of the tasks that were answered, and why the next one was not."""
    text = msgspec.json.encode(job)
    if len(text) > JOB_BYTES_MAX:
        most = format_bytes(JOB_BYTES_MAX)
        raise TooLarge(
            f"policies would have to look at {format_bytes(len(text))}, more than {most}; apply fewer at once"
        )
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "stoker.control.judge_main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        cwd="/",
        start_new_session=True,
    )
    try:
        out, said = process.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        out, said = process.communicate()
    lines = out.split(b"\n")
    return lines[:-1], _why(process.returncode, said)


def _why(code: int, said: bytes) -> str:
    if code == -signal.SIGPROF:
        return f"more than {POLICY_CPU_S:g} s of computing"
    if code == -signal.SIGKILL:
        return f"more than {JUDGE_S:g} s"
    words = said.decode("utf-8", "replace").strip().splitlines()
    if code < 0 or (words and "MemoryError" in words[-1]):
        return f"more than {format_bytes(MEMORY_BYTES)} of memory, or nested too deeply"
    return f"evaluating it broke: {words[-1] if words else f'exit code {code}'}"
