"""When a step that could not be judged is over, and what the manifest makes of that. Pure.

A step waits for requests that say something of the canary. It ends without a verdict in two ways: the canary answers
next to nothing so that it could be judged, though it is asked often enough (it refuses with 429, say, and the baseline
does not); or the step has taken all of its time, for whatever reason.
"""

from stoker.core.rollout.state import RolloutState
from stoker.core.rollout.table import Event
from stoker.types.rollouts import Rollout
from stoker.types.units import parse_seconds


def why(state: RolloutState, held: str, now_s: float) -> str:
    """Return why the step that runs is inconclusive; "" while it is not.

    held: what the verdict waits for.
    """
    spec = state.spec
    over_s = now_s - state.since_s - parse_seconds(spec.dwell)
    if state.phase != "stepping" or over_s < 0.0:
        return ""
    canary, baseline = state.asked
    is_enough = canary.bad >= spec.requests_min > state.arrivals.total
    if is_enough and 2 * canary.bad > canary.total and 2 * baseline.bad <= baseline.total:
        said = f"it refused, or found at fault, {canary.bad} of {canary.total} requests of this step"
        return f"inconclusive: {said}, the baseline {baseline.bad} of {baseline.total}"
    if over_s >= parse_seconds(spec.analysis):
        return f"inconclusive: {spec.analysis} after its dwell this step cannot be judged; {held}"
    return ""


def ending(spec: Rollout, *, promotes: bool) -> Event | None:
    """Return the event that an inconclusive step ends with; None: it goes on.

    promotes: whether the strategy goes on to all of the traffic; one that only reports does that.
    """
    match spec.inconclusive:
        case "hold":
            return None
        case _ if not promotes:
            return "reported"
        case "promote":
            return "passed"
        case "abort":
            return "inconclusive"


def due_s(state: RolloutState) -> tuple[float, float]:
    """Return when the dwell of the step that runs is over, and when all of its time is."""
    dwelt_s = state.since_s + parse_seconds(state.spec.dwell)
    return dwelt_s, dwelt_s + parse_seconds(state.spec.analysis)
