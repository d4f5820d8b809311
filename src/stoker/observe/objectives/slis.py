"""Where the events of an objective are counted: the one place that ties promises to metrics.

A time is good up to the limit's bucket, which is 9 % wide (telemetry/histogram.py): with `under: 300ms`, 320 ms may be.
So is a shift; its event is a verdict (control/drift/watch.py), one each `spec.drift.every`. That of quality is a
prediction's first label (control/feedback.py). That of freshness is an answer, and bad once its version is too old.
"""

from collections.abc import Mapping
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


STALE_MAX: Final = 200  # revisions that are too old, the newest; answers of the ones before are not seen as old


class Source(msgspec.Struct, frozen=True):
    """What is counted of an objective: all events, and those that are bad, or (`parts_are_good`) good, together."""

    total: Selector
    parts: tuple[Selector, ...]
    parts_are_good: bool = False


def source(project: str, endpoint: str, objective: Objective, made: Mapping[str, float], now_s: float) -> Source:
    """Return where the objective's events are counted. The manifest was checked: what says which are good is there.

    made: when the versions that may have answered were made (unix seconds), by revision.
    """
    if objective.sli == "availability":
        if objective.tenant:
            total = select(
                "stoker_tenant_first_attempts_total", project=project, endpoint=endpoint, tenant=objective.tenant
            )
        else:
            total = select("stoker_first_attempts_total", project=project, endpoint=endpoint)
        bad = msgspec.structs.replace(total, matchers=(*total.matchers, Matcher("outcome", "=", "bad")))
        return Source(total, (bad,))
    if objective.sli == "quality":
        assert objective.at_least is not None
        # Bad is what lies below the bucket of `at_least`.
        scores = select("stoker_prediction_score_ratio", project=project, endpoint=endpoint)
        bad = msgspec.structs.replace(scores, at_most=objective.at_least / BUCKET)
        return Source(scores, (bad,))
    limit = objective.at_most if objective.under is None else parse_seconds(objective.under)
    assert limit is not None
    if objective.sli == "freshness":
        return _freshness(project, endpoint, limit, made, now_s)
    metric = _VALUES[objective.sli]
    return Source(
        total=select(metric, project=project, endpoint=endpoint),
        parts=(select(metric, at_most=limit, project=project, endpoint=endpoint),),
        parts_are_good=True,
    )


def _freshness(project: str, endpoint: str, under_s: float, made: Mapping[str, float], now_s: float) -> Source:
    """Return all answers that a version gave, and those that each gave after it was too old."""
    answers = select("stoker_first_attempts_total", project=project, endpoint=endpoint, outcome="good")
    stale = sorted((made_s + under_s, revision) for revision, made_s in made.items() if made_s + under_s < now_s)[
        -STALE_MAX:
    ]
    return Source(
        total=msgspec.structs.replace(answers, matchers=(*answers.matchers, Matcher("revision", "!=", ""))),
        parts=tuple(
            msgspec.structs.replace(
                answers, matchers=(*answers.matchers, Matcher("revision", "=", revision)), after_s=max(after_s, 0.0)
            )
            for after_s, revision in stale
        ),
    )
