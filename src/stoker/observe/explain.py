"""From the history of an endpoint to its diagnosis: which stretch is bad, which one is its baseline, and why.

The stretch that is asked about is divided where it got worse (core/diagnose/onset.py), so that good minutes at its
beginning do not thin the bad ones out; without such a point its last part is compared with the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from stoker.core.diagnose.onset import Point, onset_s
from stoker.core.diagnose.verdict import Diagnosis, Explanation, diagnose
from stoker.core.diagnose.window import CHANGES_MAX, Change
from stoker.observe.compared import window
from stoker.telemetry.snapshot import Snapshot

STEP_S: Final = 60.0
LOOK_BACK_S: Final = 3600.0  # before what is asked about; a baseline from another time of day is none
RECENT_S: Final = 300.0
BAD_DEFAULT_S: Final = 600.0
BAD_MAX_S: Final = 3600.0  # of an incident that lasts, the newest hour
# A change before the onset may lie outside of what is compared.
CHANGES_BEFORE_S: Final = 600.0


class Evidence(Protocol):
    """Where the numbers of an endpoint come from: the history of metrics and the journal, or a simulation."""

    async def change(self, project: str, endpoint: str, start_s: float, end_s: float) -> Snapshot:
        """Return what counters and histograms gained between two times (unix), and the means of gauges."""
        ...

    async def points(self, project: str, endpoint: str, start_s: float, end_s: float, step_s: float) -> Sequence[Point]:
        """Return the endpoint's requests, failures and latency in steps."""
        ...

    async def changes_of(self, project: str, endpoint: str, start_s: float, end_s: float) -> Sequence[Change]:
        """Return what was done to the endpoint between two times, oldest first."""
        ...

    async def places(self, project: str, endpoint: str) -> Mapping[str, str]:
        """Return the node of each replica, those included that are gone where it is known."""
        ...


async def explain(
    evidence: Evidence, project: str, endpoint: str, now_s: float, since_s: float | None = None
) -> Explanation:
    """Return why the endpoint is worse now than before.

    Args:
        since_s: the bad stretch begins no earlier than this; without it the last hour is searched for its beginning.
    """
    end_s = now_s // STEP_S * STEP_S
    start_s = (min(since_s, end_s) if since_s is not None else end_s) - LOOK_BACK_S
    start_s = max(start_s // STEP_S * STEP_S, end_s - LOOK_BACK_S - BAD_MAX_S, 0.0)
    points = await evidence.points(project, endpoint, start_s, end_s, STEP_S)
    seen = [each for each in points if each.requests > 0]
    first_s = seen[0].at_s if seen else start_s
    began_s = onset_s(seen)
    if since_s is not None and (began_s is None or began_s < since_s - STEP_S):
        began_s = since_s // STEP_S * STEP_S
    bad_from_s = (
        began_s if began_s is not None else max(end_s - BAD_DEFAULT_S, (first_s + end_s) / 2 // STEP_S * STEP_S)
    )
    bad_from_s = min(max(bad_from_s, first_s), end_s)
    places = await evidence.places(project, endpoint)
    base = window(await evidence.change(project, endpoint, first_s, bad_from_s), project, endpoint, first_s, places)
    change = await evidence.change(project, endpoint, bad_from_s, end_s)
    bad = window(change, project, endpoint, bad_from_s, places, base.slow_over_s)
    changes = tuple(await evidence.changes_of(project, endpoint, start_s - CHANGES_BEFORE_S, end_s))[-CHANGES_MAX:]
    return Explanation(diagnose(bad, base, changes, bad_from_s), bad_from_s, end_s, first_s, bad_from_s, changes)


async def still_wrong(
    evidence: Evidence, project: str, endpoint: str, base_s: tuple[float, float], now_s: float
) -> Diagnosis:
    """Return how the last RECENT_S compare with the stretch `base_s`, which was good; to tell when it is over."""
    end_s = now_s // STEP_S * STEP_S
    base = window(await evidence.change(project, endpoint, *base_s), project, endpoint, base_s[0], {})
    change = await evidence.change(project, endpoint, end_s - RECENT_S, end_s)
    return diagnose(window(change, project, endpoint, end_s - RECENT_S, {}, base.slow_over_s), base, ())
