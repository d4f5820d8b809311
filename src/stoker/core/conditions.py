"""What conditions say and since when: the one place that turns what was seen into `Ready=False because: …`."""

from collections.abc import Iterable

from stoker.types.process import ProcessStatus
from stoker.types.statuses import Condition, EndpointStatus

READY = "Ready"
PROGRESSING = "Progressing"
DRIFTED = "Drifted"
RELEASED = "Released"
BOUNDARY = "BoundaryHolds"
SECRETS = "SecretsAvailable"
SANDBOXED = "Sandboxed"
HOOKS = "HooksTold"  # while a hook of its rollouts cannot be told
GATES = " waits for its gates: "  # in messages, behind a revision and before what it waits for
# Deaths in a row without 60 s of readiness in between; one or two may be chance (memory, a slow disk).
CRASH_LOOP_CRASHES = 3
MESSAGE_MAX = 1000
# Why a revision that is asked for may never serve, in a few words before the reason.
_STUCK = {"NoCapacity": "has no room", "CrashLoop": "crashes"}


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of that type, if it was ever set."""
    return next((condition for condition in conditions if condition.type == kind), None)


def merge(old: tuple[Condition, ...], new: Iterable[Condition]) -> tuple[Condition, ...]:
    """Return `new`, each with the `since_s` of its old self unless its status changed. Order is that of `new`."""
    merged = []
    for condition in new:
        before = find(old, condition.type)
        since_s = before.since_s if before is not None and before.status == condition.status else condition.since_s
        merged.append(
            Condition(
                type=condition.type,
                status=condition.status,
                reason=condition.reason,
                message=condition.message[:MESSAGE_MAX],
                since_s=since_s,
            )
        )
    return tuple(merged)


def put(conditions: tuple[Condition, ...], one: Condition) -> tuple[Condition, ...]:
    """Return `conditions` with `one` in the place of its old self, behind the others when it is new."""
    kept = tuple(each for each in conditions if each.type != one.type)
    return merge(conditions, (*kept, one))


def is_crash_looping(process: ProcessStatus | None) -> bool:
    """Return whether a process died so often that nobody should wait for it."""
    return process is not None and process.phase != "ready" and process.crashes_in_row >= CRASH_LOOP_CRASHES


def crash_message(process: ProcessStatus) -> str:
    """Return `replica crashed 3 times loading: <its own words>`. Does not change while it waits for its next start."""
    crashes, ready = process.crashes_in_row, process.ready_crashes
    times = "1 time" if crashes == 1 else f"{crashes} times"
    if not ready:
        loading = " loading"
    elif ready >= crashes:
        loading = " after it was ready"
    else:
        loading = f", {ready} of them after it was ready"
    words = process.last_error or process.last_exit or "it left no message; see its log"
    return f"replica crashed {times}{loading}: {words}"


def under_way(status: EndpointStatus) -> str:
    """Return how far the rollout of the revision that is asked for is, or whom it waits for; "" where none runs."""
    number = f"#{status.revision.rpartition('-')[2]}"
    progressing = find(status.conditions, PROGRESSING)
    has = progressing.message.partition(" has ")[2].partition(";")[0] if progressing is not None else ""
    match progressing.reason if progressing is not None else "":
        case "RollingOut" if has:
            return f"{number} has {has}"
        case "Paused":
            return f"{number} is paused, with {has}" if has else f"{number} is paused"
        case "Awaiting":
            return f"{number} waits for approval"
        case "Reported":
            return f"{number} waits to be promoted or aborted"
        case _:
            return ""


def newer(status: EndpointStatus) -> str:
    """Return what keeps the revision that is asked for from traffic while another serves; "" where nothing does."""
    number = f"#{status.revision.rpartition('-')[2]}"
    released = find(status.conditions, RELEASED)
    progressing = find(status.conditions, PROGRESSING)
    if not status.serving or status.serving == status.revision:
        return ""
    if released is not None and GATES in released.message:
        return f"{number} waits for its gates ({released.message.partition(GATES)[2]})"
    if progressing is not None and progressing.reason == "RolledBack":
        return f"{number} was rolled back"
    if progressing is not None and progressing.reason in _STUCK:
        return f"{number} {_STUCK[progressing.reason]}: {progressing.message.strip().splitlines()[-1]}"
    is_refused = released is not None and not released.status
    return (
        f"{number} was refused" if is_refused or (progressing is not None and progressing.reason == "Refused") else ""
    )
