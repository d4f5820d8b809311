"""Whether an endpoint has become what was asked, is on its way, or never will: read from its conditions."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from stoker.cli.output import is_live
from stoker.cli.progress import Progress
from stoker.cli.tables import start_words
from stoker.client.control import ControlClient
from stoker.client.views import EndpointDetail
from stoker.types.errors import Conflict, DeadlineExceeded, EngineFailed, NotReachable
from stoker.types.releases import REASONS
from stoker.types.statuses import Condition

T = TypeVar("T")
TAKEN_BACK: Final = ("RolledBack", "Refused")
# What an endpoint is at rest as, or does on the side, while what it serves does not change any more.
SERVES: Final = ("Draining", "Keeping", *TAKEN_BACK)
POLL_S: Final = 0.15
# A full node may be freed by replicas that are leaving; longer than this nothing will change by itself.
NO_CAPACITY_PATIENCE_S: Final = 15.0
# Control may be restarted by its agent meanwhile (1 s to start, then the first backoff).
UNREACHABLE_PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Progressing:
    """How an endpoint stands against what was asked."""

    state: Literal["done", "coming", "stuck", "failed", "refused"]
    note: str
    fraction: float = 0.0


def judge(detail: EndpointDetail, generation: int) -> Progressing:
    """Return how far `detail` is in becoming its spec of `generation`.

    "stuck" may resolve by itself; "failed" and "refused" (by a gate) will not without a change.
    """
    status = detail.status
    if status.observed_generation < generation:
        return Progressing("coming", "waiting for control")
    progressing = condition(status.conditions, "Progressing")
    ready = condition(status.conditions, "Ready")
    if progressing is None or ready is None:
        return Progressing("coming", "waiting for control")
    if progressing.reason == "Complete" or (ready.status and progressing.reason in SERVES):
        return Progressing("done", progressing.message, 1.0)
    if not progressing.status and progressing.reason in REASONS.values():
        return Progressing("refused", progressing.message)
    if progressing.reason in ("CrashLoop", "Unservable"):
        return Progressing("failed", progressing.message)
    if progressing.reason in ("NoCapacity", "Preempted"):
        return Progressing("stuck", progressing.message)
    if status.replicas_wanted == 0 and ready.reason in ("ScaledToZero", "WaitsForRoom", "Closed"):
        return Progressing("done", ready.message, 1.0)
    return Progressing("coming", progressing.message) if progressing.reason == "Gating" else _loading(detail)


def wait_ready(
    control: ControlClient,
    project: str,
    name: str,
    *,
    generation: int,
    timeout_s: float,
    progress: Progress,
    revision: str = "",
) -> EndpointDetail:
    """Return the endpoint when it serves its spec of `generation`.

    revision: what then has to serve; for what changes nothing of the spec, such as the end of a rollout that served.

    Raises:
        EngineFailed: it will not; the message is the platform's reason.
        Conflict: a gate refused it; what served goes on.
        DeadlineExceeded: not within `timeout_s`; it goes on by itself.
    """
    began_s = time.monotonic()
    stuck_since_s: float | None = None
    while True:
        detail = patiently(lambda: control.endpoint(project, name))
        found = judge(detail, generation)
        if found.state == "done" and revision not in ("", detail.status.serving) and detail.generation == generation:
            found = Progressing("coming", f"waiting for {revision}")
        now_s = time.monotonic()
        if found.state == "done":
            return detail
        if found.state == "refused":
            raise Conflict(f"{found.note}; see `stoker release show {name}`")
        if found.state == "failed":
            raise EngineFailed(f"{name} cannot be served: {found.note}; see `stoker logs {name}`")
        stuck_since_s = (stuck_since_s or now_s) if found.state == "stuck" else None
        if stuck_since_s is not None and now_s - stuck_since_s > NO_CAPACITY_PATIENCE_S:
            raise EngineFailed(f"{name} has no place to run: {found.note}")
        if now_s - began_s > timeout_s:
            raise DeadlineExceeded(f"{name} is not ready after {timeout_s:g} s: {found.note}; it goes on by itself")
        progress.step(found.note)
        progress.update(found.fraction, 1.0 if found.fraction else 0)
        time.sleep(POLL_S)


def patiently(ask: Callable[[], T]) -> T:
    """Ask, again while control is being restarted. Raises NotReachable after UNREACHABLE_PATIENCE_S."""
    deadline_s = time.monotonic() + UNREACHABLE_PATIENCE_S
    while True:
        try:
            return ask()
        except NotReachable:
            if time.monotonic() > deadline_s:
                raise
        time.sleep(POLL_S)


def condition(conditions: tuple[Condition, ...], kind: str) -> Condition | None:
    """Return the condition of a kind, None where there is none yet."""
    return next((one for one in conditions if one.type == kind), None)


def _loading(detail: EndpointDetail) -> Progressing:
    """Return how far the replicas of the new revision are, all together."""
    wanted = max(1, detail.status.replicas_wanted)
    mine = [one for one in detail.replicas if one.revision == detail.status.revision]
    done = sum(1.0 if one.phase == "ready" else one.progress.fraction for one in mine)
    slowest = min((one for one in mine if one.phase != "ready"), key=lambda one: one.progress.fraction, default=None)
    if slowest is None:
        return Progressing("coming", "starting")
    # A log is not told each second.
    words = start_words(slowest) if is_live() else slowest.progress.stage or slowest.phase or "starting"
    if slowest.phase == "backoff":
        words = f"crashed, starts again: {slowest.last_error.strip().splitlines()[-1] if slowest.last_error else ''}"
    count = f", replica {sum(one.phase == 'ready' for one in mine) + 1} of {wanted}" if wanted > 1 else ""
    return Progressing("coming", f"{words}{count}", min(1.0, done / wanted))
