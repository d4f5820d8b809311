"""From the history of an endpoint to its diagnosis: which stretch is bad, which one is its baseline, and why.

The stretch that is asked about is divided where it got worse (core/diagnose/onset.py), so that good minutes at its
beginning do not thin the bad ones out; without such a point its last part is compared with the rest. In the last
minutes the beginning is looked for in finer steps too: who is paged after ten seconds asks after ten seconds.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from stoker.core.diagnose.onset import Point, onset_s, silent_since_s
from stoker.core.diagnose.verdict import Diagnosis, Explanation, diagnose
from stoker.core.diagnose.window import CHANGES_MAX, Change
from stoker.observe.incidents.compared import Site, window
from stoker.telemetry.snapshot import Snapshot

STEP_S: Final = 60.0
FINE_BACK_S: Final = 600.0  # in which the beginning is looked for in the evidence's finest steps
LOOK_BACK_S: Final = 3600.0  # before what is asked about; a baseline from another time of day is none
RECENT_S: Final = 120.0
BAD_DEFAULT_S: Final = 600.0
BAD_MAX_S: Final = 3600.0  # of an incident that lasts, the newest hour
# What was done before it began is of interest for so long.
CHANGES_BEFORE_S: Final = 600.0


class Evidence(Protocol):
    """Where the numbers of an endpoint come from: the history of metrics and the journal, or a simulation.

    fine_s: every time it is asked about is cut to a multiple of this.
    """

    fine_s: float

    async def change(self, project: str, endpoint: str, start_s: float, end_s: float) -> Snapshot:
        """Return what counters and histograms gained between two times (unix), and the means of gauges."""
        ...

    async def points(self, project: str, endpoint: str, start_s: float, end_s: float, step_s: float) -> Sequence[Point]:
        """Return the endpoint's requests, failures and latency in steps."""
        ...

    async def changes_of(self, project: str, endpoint: str, start_s: float, end_s: float) -> Sequence[Change]:
        """Return what was done to the endpoint between two times, oldest first."""
        ...

    async def site(self, project: str, endpoint: str) -> Site:
        """Return where its replicas are, those included that are gone where it is known, and what is remote."""
        ...


class Stretch(NamedTuple):
    """From when until when (unix seconds)."""

    start_s: float
    end_s: float


async def explain(
    evidence: Evidence,
    project: str,
    endpoint: str,
    now_s: float,
    since_s: float | None = None,
    good: Stretch | None = None,
) -> Explanation:
    """Return why the endpoint is worse now than before.

    Args:
        since_s: the bad stretch begins no earlier than this; without it the last hour is searched for its beginning.
        good: what the newest BAD_DEFAULT_S since `since_s` are compared with, where that is known: of an incident.
    """
    end_s = now_s // evidence.fine_s * evidence.fine_s
    if good is not None and since_s is not None:
        base, bad = (
            good,
            Stretch(min(max(since_s // evidence.fine_s * evidence.fine_s, end_s - BAD_DEFAULT_S), end_s), end_s),
        )
    else:
        base, bad = await _stretches(evidence, project, endpoint, end_s, since_s)
    site = await evidence.site(project, endpoint)
    before = window(await evidence.change(project, endpoint, *base), project, endpoint, base.start_s, site)
    change = await evidence.change(project, endpoint, *bad)
    after = window(change, project, endpoint, bad.start_s, site, before.slow_over_s)
    onset = since_s if good is not None and since_s is not None else bad.start_s
    done = await evidence.changes_of(project, endpoint, onset - CHANGES_BEFORE_S, end_s)
    changes = tuple(done)[-CHANGES_MAX:]
    found = diagnose(after, before, changes, onset)
    return Explanation(found, *bad, *base, changes, requests=after.requests, base_requests=before.requests)


async def _stretches(
    evidence: Evidence, project: str, endpoint: str, end_s: float, since_s: float | None
) -> tuple[Stretch, Stretch]:
    """Return the good stretch and the bad one that follows it."""
    fine_s = evidence.fine_s
    start_s = (min(since_s, end_s) if since_s is not None else end_s) - LOOK_BACK_S
    start_s = max(start_s // STEP_S * STEP_S, (end_s - LOOK_BACK_S - BAD_MAX_S) // STEP_S * STEP_S, 0.0)
    points = await evidence.points(project, endpoint, start_s, end_s, STEP_S)
    seen = [each for each in points if each.requests > 0]
    first_s = seen[0].at_s if seen else start_s
    began_s = onset_s(seen)
    if fine_s < STEP_S and (began_s is None or began_s >= end_s - FINE_BACK_S):
        finer_s = max((end_s - FINE_BACK_S) // fine_s * fine_s, first_s)
        fine = await evidence.points(project, endpoint, finer_s, end_s, fine_s)
        found_s = onset_s(fine)
        began_s = silent_since_s(fine, found_s) if found_s is not None else began_s
        if finer_s <= first_s:  # idle seconds before the first request would make any rate look risen
            first_s = next((each.at_s for each in fine if each.requests > 0), first_s)
    if since_s is not None and (began_s is None or began_s < since_s - STEP_S):
        began_s = since_s // fine_s * fine_s
    if began_s is None:
        began_s = max(end_s - BAD_DEFAULT_S, (first_s + end_s) / 2 // fine_s * fine_s)
    began_s = min(max(began_s, first_s), end_s)
    return Stretch(first_s, began_s), Stretch(began_s, end_s)


async def still_wrong(
    evidence: Evidence, project: str, endpoint: str, base_s: tuple[float, float], now_s: float
) -> Diagnosis:
    """Return how the last RECENT_S compare with the stretch `base_s`, which was good; to tell when it is over."""
    end_s = now_s // evidence.fine_s * evidence.fine_s
    base = window(await evidence.change(project, endpoint, *base_s), project, endpoint, base_s[0])
    change = await evidence.change(project, endpoint, end_s - RECENT_S, end_s)
    return diagnose(window(change, project, endpoint, end_s - RECENT_S, slow_over_s=base.slow_over_s), base, ())
