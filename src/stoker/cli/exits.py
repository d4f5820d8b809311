"""What the command's exit codes mean, and what a person reads when something goes wrong.

code  meaning
0     done
1     the operation failed: the platform tried, and could not
2     wrong usage: unknown option or command, missing argument
3     not found: no endpoint, model, version, key or file of that name
4     refused: invalid input, a manifest with errors, an artifact that is not what it says, a conflict, a policy
5     not reachable: nothing answers there; is it running?
6     timed out: it may still happen; nothing was undone
7     not allowed: no key, a bad one, or one without the right
8     busy: full or not ready at this moment; the same call may succeed later
10    `stoker diff --exit-code` found differences
11    the rollout that was waited for was rolled back: the revision before serves
12    the rollout that was waited for waits for somebody: it is paused, or an a-b is over
130   stopped with Ctrl-C
"""

import os
from enum import IntEnum

import click

from stoker.client.connection import Detail, ManifestRefused, PolicyRefused
from stoker.types.errors import (
    Busy,
    ClientTooSlow,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InvalidInput,
    NotFound,
    NotReachable,
    PolicyDenied,
    RefusedArtifact,
    StokerError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)


class Exit(IntEnum):
    """The exit codes; stable, scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    NOT_REACHABLE = 5
    TIMED_OUT = 6
    NOT_ALLOWED = 7
    BUSY = 8
    DIFFERENT = 10
    ROLLED_BACK = 11
    PAUSED = 12
    INTERRUPTED = 130


# First match counts: NotReachable is also Unavailable.
_CODES: tuple[tuple[type[StokerError], Exit], ...] = (
    (NotFound, Exit.NOT_FOUND),
    (InvalidInput, Exit.REFUSED),
    (RefusedArtifact, Exit.REFUSED),
    (PolicyDenied, Exit.REFUSED),
    (Conflict, Exit.REFUSED),
    (Unsupported, Exit.REFUSED),
    (NotReachable, Exit.NOT_REACHABLE),
    (DeadlineExceeded, Exit.TIMED_OUT),
    (ClientTooSlow, Exit.TIMED_OUT),
    (Unauthenticated, Exit.NOT_ALLOWED),
    (Forbidden, Exit.NOT_ALLOWED),
    (Busy, Exit.BUSY),
    (Unavailable, Exit.BUSY),
)

_HINTS: dict[type[StokerError], str] = {
    NotReachable: "start it with `stoker up`, or say where it is: STOKER_HOME (state folder), STOKER_API (address)",
    Unauthenticated: "set STOKER_KEY to a good key, or use the state folder of the platform (STOKER_HOME)",
    Forbidden: "take a key that may (STOKER_KEY); an owner of the project makes one, or an admin",
}


def exit_code(problem: StokerError) -> Exit:
    """Return the exit code of an error."""
    for kind, code in _CODES:
        if isinstance(problem, kind):
            return code
    return Exit.FAILED


def explain(problem: StokerError) -> str:
    """Return the error as a person reads it: one line, then a line for each detail, then what to do."""
    is_shown = not problem.field or problem.field in problem.message or "\n" in problem.message  # with a mark at it
    field = "" if is_shown else f" (at {problem.field})"
    lines = [f"{click.style('error', fg='red', bold=True)}: {problem.message}{field}"]
    if isinstance(problem, ManifestRefused | PolicyRefused):
        lines += [f"  {_detail(one)}" for one in problem.details]
    hint = next((text for kind, text in _HINTS.items() if isinstance(problem, kind)), "")
    for note in getattr(problem, "__notes__", ()):  # whoever raised it knows better
        hint = note
    if problem.retry_after_s is not None and not hint:
        hint = f"try again in {problem.retry_after_s:g} s"
    if hint:
        lines.append(f"  {click.style('→', dim=True)} {hint}")
    return "\n".join(lines)


def _detail(detail: Detail) -> str:
    where = f"line {detail.line}: " if detail.line else ""
    return f"{where}{detail.field + ': ' if detail.field else ''}{detail.message}"


def explain_crash(crash: Exception) -> str:
    """Return what a person reads when the command itself is at fault."""
    words = str(crash).strip() or type(crash).__name__
    lines = [f"{click.style('error', fg='red', bold=True)}: this is a fault in stoker: {type(crash).__name__}: {words}"]
    if not os.environ.get("STOKER_DEBUG"):
        lines.append(f"  {click.style('→', dim=True)} set STOKER_DEBUG=1 to see where it happened, and report it")
    return "\n".join(lines)
