"""Where the events of an objective are counted: the one place that ties promises to metrics.

A time is good up to the limit's bucket, which is 9 % wide (telemetry/histogram.py): with `under: 300ms`, 320 ms may be.
So is a shift; its event is a verdict (control/drift/watch.py), one each `spec.drift.every`. That of quality is a
prediction's first label (control/feedback.py).
"""

from typing import Final

import msgspec

from stoker.observe.port import Matcher, Selector, select
from stoker.types.slos import Objective, Sli
from stoker.types.units import parse_seconds

BUCKET: Final = 2 ** (1 / 8)  # from one bound of a histogram's bucket to the next
_VALUES: Final[dict[Sli, str]] = {
    "latency": "stoker_request_duration_seconds",
    "ttft": "stoker_time_to_first_token_seconds",
    "inter_token": "stoker_time_per_output_token_seconds",
    "drift": "stoker_drift_shift",
}


class Source(msgspec.Struct, frozen=True):
    """What is counted of an objective: all events, and those that are bad, or (`part_is_good`) good."""

    total: Selector
    part: Selector
    part_is_good: bool


def source(project: str, endpoint: str, objective: Objective) -> Source | None:
    """Return where the objective's events are counted; None while nothing counts such."""
    if objective.sli == "availability":
        if objective.tenant:
            total = select(
                "stoker_tenant_first_attempts_total", project=project, endpoint=endpoint, tenant=objective.tenant
            )
        else:
            total = select("stoker_first_attempts_total", project=project, endpoint=endpoint)
        bad = msgspec.structs.replace(total, matchers=(*total.matchers, Matcher("outcome", "=", "bad")))
        return Source(total, bad, part_is_good=False)
    if objective.sli == "quality" and objective.at_least is not None:
        # Bad is what lies below the bucket of `at_least`.
        scores = select("stoker_prediction_score_ratio", project=project, endpoint=endpoint)
        bad = msgspec.structs.replace(scores, at_most=objective.at_least / BUCKET)
        return Source(scores, bad, part_is_good=False)
    metric = _VALUES.get(objective.sli)
    limit = objective.at_most if objective.under is None else parse_seconds(objective.under)
    if metric is None or limit is None:
        return None
    return Source(
        total=select(metric, project=project, endpoint=endpoint),
        part=select(metric, at_most=limit, project=project, endpoint=endpoint),
        part_is_good=True,
    )
